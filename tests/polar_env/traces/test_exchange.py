from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polar_env.envs import ProgramEnv
from polar_env.errors import TraceError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.traces import TraceSet
from polar_env.traces.exchange.polar_json import export_polar, import_polar
from polar_env.worlds import LiveWorld
from tests.polar_env.traces.test_traces import collected
from tests.worlds import world_of

SAMPLE = {
    "question": "What is 2 + 2?",
    "gt_ans": "4",
    "final_valid_transitions": [[0, 1, 2, 3], [0, 0, 1, 3]],
    "final_invalid_transitions": [[0, 3]],
}


def test_polar_json_and_back(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    traces = collected(tmp_path / "traces", world, questions[:3])
    path = tmp_path / "merged_mcts_samples.json"
    assert export_polar(traces, questions, path) == 3
    sample = json.loads(path.read_text())["samples"][0]
    assert sample["question"] == questions[0].text
    assert sample["initial_score"] in (0.0, 1.0)
    assert ([0, 1, 2, 3] in sample["final_valid_transitions"]) == (sample["initial_score"] == 1.0)
    lengths = [len(layers) for layers in sample["final_valid_transitions"]]
    assert lengths == sorted(lengths)
    again = import_polar(path, world.depth)
    assert not again.problems
    text_of = {question.id: question.text for question in questions}
    verdicts = {(text_of[row.question_id], row.program): row.right for row in list(traces.verdict_rows())}
    texts = {question.id: question.text for question in again.questions}
    found = {(texts[row.question_id], row.program): row.right for row in again.rows}
    assert found == verdicts
    assert all(row.order == 0 for row in again.rows if row.program == "0-3")


@pytest.mark.parametrize(
    "content",
    [
        {"samples": [SAMPLE]},
        [SAMPLE],
        {"first": SAMPLE},
        [{**SAMPLE, "question": None, "sample_info": {"question": "What is 2 + 2?"}}],
        [{**SAMPLE, "final_valid_transitions": [{"path": [0, 1, 2, 3]}, {"path": [0, 0, 1, 3], "score": 1.0}]}],
    ],
)
def test_all_layouts_of_the_polar_release_are_read(tmp_path: Path, content: object) -> None:
    path = tmp_path / "samples.json"
    path.write_text(json.dumps(content))
    found = import_polar(path, depth=4)
    assert not found.problems
    assert [question.id for question in found.questions] == [Ask.typed("What is 2 + 2?").id]  # as JSON lines are read
    assert {row.program: row.right for row in found.rows} == {"0-3": True, "0x2 1 3": True, "0 3": False}


def test_paths_that_are_no_programs_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    wrong = {**SAMPLE, "final_valid_transitions": [[0, 1, 4], [], "0-3", [0, -1], [0, True], [0, 2, 3]]}
    path.write_text(json.dumps([wrong, {**SAMPLE, "gt_ans": "", "question": "x"}]))
    found = import_polar(path, depth=4)
    assert len(found.problems) == 6
    assert "sample 0, final_valid_transitions[0]: layer 4 is out of range" in found.problems[0]
    assert "sample 1" in found.problems[-1]
    assert [row.program for row in found.rows if row.right] == ["0 2-3"]
    path.write_text("[1, 2]")
    with pytest.raises(TraceError, match="holds no samples"):
        import_polar(path, depth=4)


def test_a_file_of_another_depth_is_refused(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    path = tmp_path / "samples.json"
    export_polar(collected(tmp_path / "traces", world, questions[:1]), questions, path)
    with pytest.raises(TraceError, match="is of tiny with 4 layers, and this model has 30"):
        import_polar(path, depth=30)


def test_samples_that_say_nothing_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    misspelt = {"question": "What is 3 + 3?", "gt_ans": "6", "final_valid_transition": [[0, 1, 2, 3]]}
    path.write_text(json.dumps([SAMPLE, misspelt, {**SAMPLE, "sample_info": [1]}, "text"]))
    problems = import_polar(path, depth=4).problems
    assert "sample 1: it has neither 'final_valid_transitions' nor" in problems[0]
    assert [problem[:8] for problem in problems] == ["sample 1", "sample 2", "sample 3"]


def test_an_export_has_one_verdict_on_each_program(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    """Imported verdicts beside our own tree: ours count. Without the identity's there is no initial score."""
    traces = collected(tmp_path / "traces", world, questions[:1])
    rows = list(traces.verdict_rows())
    traces.append([replace(row, stage="imported", right=not row.right) for row in rows])
    alone = replace(rows[1], question_id=questions[1].id, stage="imported", order=0)
    traces.append([alone])
    path = tmp_path / "samples.json"
    export_polar(traces, questions, path)
    first, second = json.loads(path.read_text())["samples"]
    valid, invalid = ({tuple(p) for p in first[f"final_{kind}_transitions"]} for kind in ("valid", "invalid"))
    assert valid == {Program.parse(row.program).layers for row in rows if row.right}
    assert not valid & invalid
    assert "initial_score" in first
    assert "initial_score" not in second


def test_minari_episodes_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llm: FrozenLLM, questions: list[Question]
) -> None:
    minari = pytest.importorskip("minari")
    from polar_env.traces.exchange.minari import best_rows, export_minari, replay

    world = world_of(tiny_llm, Prompt(style="qa"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    traces = collected(tmp_path / "traces", world, questions[:3])
    episodes, unspoken = export_minari(traces, world, questions, "polar/test-v0", per_question=2)
    assert episodes + unspoken == 6
    dataset = minari.load_dataset("polar/test-v0")
    assert dataset.total_episodes == episodes
    env = ProgramEnv(world, questions)
    replay(dataset, env)
    verdicts = {(row.question_id, row.program): row.right for row in best_rows(traces, 2)}
    for episode in dataset.iterate_episodes():
        layers = Program(tuple(int(action) for action in episode.actions[:-1]))
        right = episode.rewards[-1] > 0.5
        assert any(program == str(layers) and right == was for (_, program), was in verdicts.items())
        assert episode.terminations[-1]
    monkeypatch.setattr(env.rules, "layer_cost", 0.2)
    with pytest.raises(TraceError, match="does not replay"):
        replay(dataset, env)
    row = next(iter(traces.verdict_rows()))
    lied = TraceSet.create(tmp_path / "lied", world, {})
    lied.append([replace(row, right=not row.right)])
    with pytest.raises(TraceError, match=r"the traces say that .* and played it is"):
        export_minari(lied, world, questions, "polar/lied-v0")


def test_random_programs_do_not_depend_on_numpy_state(world: LiveWorld) -> None:
    from agents.search.config import MctsConfig
    from train.chance import random_programs

    np.random.seed(0)  # noqa: NPY002 - the point of the test
    first = random_programs(8, MctsConfig(), 30, 4, 1)
    np.random.seed(1)  # noqa: NPY002
    assert first == random_programs(8, MctsConfig(), 30, 4, 1)
    assert first != random_programs(8, MctsConfig(), 30, 4, 2)
    assert len(set(first)) == 31
    assert first[0] == Program.identity(8)
