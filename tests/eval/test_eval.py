from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from agents.base import Decision, Response
from agents.card import AgentCard
from agents.fixed import StaticAgent
from agents.search.config import MctsConfig
from eval.agreement import agreement_table, disagreements
from eval.config import EvaluationConfig
from eval.evaluate import evaluate, evaluate_oracle
from eval.leaks import refuse_leaks
from eval.methods import ALSO_BEST_STATIC, ORACLE, Method, method_of, methods_of, oracle_method, with_distinct_names
from eval.points import operating_points
from eval.protocol import evaluate_agents
from eval.results import Results
from eval.summary import shorter_share, summarise
from eval.summary_tables import slower_notes
from eval.timing import Timing, read_timings, time_methods
from polar_env.errors import ConfigError, FingerprintError, LeakError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import (
    Ask,
    Example,
    Prompt,
    Prompts,
    Question,
    is_right,
    near_hash,
    twin_hash,
    without_examples,
)
from polar_env.runner import Verdict, VerdictStore
from polar_env.runner.batches import Target
from polar_env.runner.schedule import Execution
from polar_env.worlds import LiveWorld
from tests.worlds import world_of

IDENTITY = method_of(StaticAgent(Program.identity(4), "identity"))
SHORT = method_of(StaticAgent(Program((0, 1, 3)), "short"))
SEARCH = MctsConfig(simulations=8)
METHODS = [IDENTITY, SHORT, oracle_method(SEARCH, 0)]
ROLES = {method.name: method.role for method in METHODS}


@pytest.fixture
def results(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> Results:
    results = Results(tmp_path / "results")
    results.begin(world, questions, METHODS, {})
    evaluate(world, METHODS[:2], questions, results, forced={question.id for question in questions[:6]})
    evaluate_oracle(world, METHODS[-1], questions[:6], SEARCH, results)
    return results


def test_rows_are_what_programs_write(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    rows = results.rows()
    for method, program in ((IDENTITY, Program.identity(4)), (SHORT, Program((0, 1, 3)))):
        written = world.answers([question.ask for question in questions], program)
        of_method = rows[rows["method_id"] == method.id]
        assert of_method["question_id"].tolist() == [question.id for question in questions]
        assert of_method["answer"].tolist() == [answer.text for answer in written]
        right = [is_right(answer.text, question) for answer, question in zip(written, questions, strict=True)]
        assert of_method["right"].tolist() == right
        assert 0 < sum(right) < len(right)
    summary = summarise(rows, 4, ROLES)
    assert summary.methods["identity"].mean_cost == 1.0
    assert summary.methods["short"].mean_cost == 0.75
    assert summary.methods["short"].executions.tolist() == [1, 1, 0, 1]
    assert summary.methods["short"].flops < summary.methods["identity"].flops
    assert summary.methods[ORACLE].pass_at_1.count == 6
    of_task = summary.as_json()["short"]["tasks"]["questions"]
    assert of_task["mean_cost"] == 0.75
    assert of_task["flops"] == pytest.approx(summary.methods["short"].flops)
    assert list(summary.comparisons["vs_identity"]) == ["short"]  # neither itself nor the oracle


def test_teacher_forced_verdicts_stand_beside(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    """Answers of one character: the verdicts agree, unless blanks or case make a written answer right."""
    rows = results.rows()
    judged = rows[rows["forced"].notna()]
    assert len(judged) == 2 * 6
    for row in judged.itertuples():
        question = next(q for q in questions if q.id == row.question_id)
        (verdict,) = world.verdicts([(question, Program.parse(row.program))])
        assert row.forced == verdict.right
    table = agreement_table(rows)
    assert table is not None
    assert [row[:3] for row in table.rows if row[1] == "all"] == [("identity", "all", "6"), ("short", "all", "6")]
    differing = disagreements(rows)
    assert (differing is None) == (judged["forced"].astype(bool) == judged["right"]).all()
    assert agreement_table(rows.assign(forced=None)) is None


def test_an_evaluation_stopped_20_times_gives_the_same_files(
    tmp_path: Path, world: LiveWorld, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at any layer of any answer, verdict or search, it comes to the same bytes, the report's included."""
    monkeypatch.setattr("eval.evaluate.BATCH", 6)
    monkeypatch.setattr("eval.evaluate._ORACLE_BATCH", 3)
    monkeypatch.setattr("eval.report.page.png", lambda *_, **__: b"")  # drawing takes seconds
    questions = without_examples(questions, world.prompts)[:12]
    config = EvaluationConfig(baseline_questions=8, oracle_questions=6, oracle=SEARCH, timing_questions=0)
    execute, calls, stop_at = Execution._execute, [0], [0]

    def counted(self: Execution, layer: int, batch: list[Target]) -> None:
        calls[0] += 1
        if calls[0] == stop_at[0]:
            raise KeyboardInterrupt
        execute(self, layer, batch)

    monkeypatch.setattr(Execution, "_execute", counted)

    def run(folder: Path, stop: int = 0) -> dict[str, bytes]:
        calls[0], stop_at[0] = 0, stop
        evaluate_agents(world, ["static:0-1 3"], questions, folder, config)
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        del files[Path("summary.json")]  # it names the folder
        return files

    whole = run(tmp_path / "whole")
    shards = -(-len(questions) // 6) + 2
    assert len(list((tmp_path / "whole" / "results").glob("*.parquet"))) == shards
    assert Path("report.html") in whole
    for number, stop in enumerate(np.random.default_rng(0).integers(1, calls[0] + 1, size=20)):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(number), int(stop))
        assert run(tmp_path / str(number)) == whole


def test_an_agent_that_reads_verdicts_from_a_store_fails_the_run(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    """A verdict knows the gold answer; whoever chooses programs may not look it up, from memory or from disk."""
    store = VerdictStore.of(tmp_path / "verdicts", world.llm)
    key = store.key(b"a question under its prompt", bytes(world.identity.layers))
    store.put({key: Verdict(True, -0.1)})

    class Peeks:
        name = "peeks"

        def decide(self, asks: list[Ask]) -> list[Decision]:
            right = store.get([key])[key].right
            return [Decision.of(world.identity if right else Program((0, 1, 3)))] * len(asks)

    method = Method("peeks", "peeks", Peeks())
    results = Results(tmp_path / "results")
    results.begin(world, questions, [IDENTITY, method], {})
    with pytest.raises(LeakError, match=r"'peeks' read verdicts from .* while it chose programs"):
        evaluate(world, [IDENTITY, method], questions, results)
    assert len(results.rows()) == 0
    assert store.get([key])[key].right  # searches and training still may


def test_results_of_other_questions_are_refused(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    with pytest.raises(FingerprintError, match="differs in: questions"):
        results.begin(world, questions[1:], METHODS, {})
    with pytest.raises(FingerprintError, match="differs in: methods"):
        results.begin(world, questions, [*METHODS[:-1], oracle_method(SEARCH, 1)], {})


def test_results_that_cannot_be_read(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    assert Results.open(results.folder.parent).folder == results.folder
    meta = (results.folder / "results.json").read_text()
    (results.folder / "results.json").write_text(meta.replace('"protocol_version": 2', '"protocol_version": 1'))
    for read in (lambda: Results.open(results.folder), lambda: results.begin(world, questions, METHODS, {})):
        with pytest.raises(FingerprintError, match=r"version 1 of the protocol.*writes and reads 2"):
            read()
    (results.folder / "results.json").write_text("{")
    with pytest.raises(ConfigError, match=r"results.json is damaged"):
        results.begin(world, questions, [IDENTITY], {})
    with pytest.raises(ConfigError, match="holds no results"):
        Results.open(results.folder.parent.parent / "nothing")


def test_worked_examples_are_refused(questions: list[Question]) -> None:
    shown = Example(question=questions[0].text.upper(), answer="1", equation=questions[0].ask.equation)
    prompts = Prompts.for_all(Prompt(style="qa", examples=(shown,)))
    with pytest.raises(LeakError, match=f"1 of {len(questions)} questions are worked examples"):
        refuse_leaks(questions, [], prompts)


def test_methods_of_one_name_get_distinct_names(world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    """Two agents may share a name, and the identity may be given beside the one that is always measured."""
    same = method_of(StaticAgent(Program((0, 1, 3)), "identity"))
    methods = with_distinct_names([IDENTITY, same, method_of(StaticAgent(Program.identity(4), "again"))])
    assert [method.id for method in methods] == [IDENTITY.id, same.id]
    assert [method.name for method in methods] == ["identity", f"identity ({same.id[:6]})"]
    results = Results(tmp_path)
    results.begin(world, questions, methods, {})
    evaluate(world, methods, questions, results)
    assert len(results.rows()) == 2 * len(questions)
    summary = summarise(results.rows(), 4, results.roles())
    assert {entry.mean_cost for entry in summary.methods.values()} == {1.0, 0.75}


def test_every_table_has_the_identity_and_the_best_static_programs(world: LiveWorld) -> None:
    results = {"best-static": "0-1 3", "best-static-per-task": {"sums": "0 3"}}
    cards = {Path("mine"): cast("AgentCard", SimpleNamespace(results=results))}
    names = [method.name for method in methods_of(world, ["static:0-1 3", "static:0 3"], cards, 0)]
    assert names == [
        "identity", "best-static", "best-static-per-task", "static 0 3", "random", "majority 2", "best-of 2"
    ]  # fmt: skip
    results = {"best-static": "0-3", "best-static-per-task": {}}
    methods = methods_of(world, [], {Path("mine"): cast("AgentCard", SimpleNamespace(results=results))}, 0)
    assert (methods[0].name, methods[0].remark) == ("identity", "also the best static program")
    assert methods[1].name == "random"


def test_the_identity_may_be_the_best_static_program(results: Results) -> None:
    """Then the headline compares with it, and is said once."""
    roles = {**ROLES, "short": "agent"}
    summary = summarise(results.rows(), 4, roles, remarks={"identity": ALSO_BEST_STATIC})
    assert summary.comparisons["vs_static"]["short"]["all"].base == "identity"
    assert summary.as_json()["short"]["vs_static"] == summary.as_json()["short"]["vs_identity"]
    assert sum(sentence.startswith("short ") for sentence in summary.sentences) == 1
    assert "vs_static" not in summarise(results.rows(), 4, roles).as_json()["short"]


def test_methods_that_run_several_programs_pay_for_all(
    world: LiveWorld, questions: list[Question], tmp_path: Path
) -> None:
    class Twice:
        name = "twice"

        def respond(self, asks: list[Ask]) -> list[Response]:
            answers = world.asks.answers(asks, world.identity)
            return [Response(answer, (world.identity, Program((0, 1))), layers=1, flops=5.0) for answer in answers]

    method = Method("twice", "twice", Twice(), "baseline")
    results = Results(tmp_path)
    results.begin(world, questions[:3], [IDENTITY, method], {})
    evaluate(world, [IDENTITY, method], questions[:3], results, forced={questions[0].id})
    rows = results.rows()
    twice, once = rows[rows["method"] == "twice"], rows[rows["method"] == "identity"]
    assert twice["layers"].tolist() == [7] * 3
    assert twice["programs"].tolist() == [2] * 3
    assert twice["answer"].tolist() == once["answer"].tolist()
    assert twice["forced"].isna().all()  # its answer is no single program's
    assert (twice["flops"].to_numpy() > once["flops"].to_numpy() + 5).all()


def test_timing_keeps_what_was_timed(world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    asks = [question.ask for question in questions[:4]]
    timings = time_methods(world, METHODS[:2], asks, tmp_path)
    assert [(each.method, each.batch) for each in timings] == [
        (m, b) for m in ("identity", "short") for b in (1, 8, 32)
    ]
    for each in timings:
        assert each.seconds > each.decide_seconds >= 0
        assert each.first_token is not None
        assert each.first_token > 0
        assert each.token_layers > 0
    assert time_methods(world, METHODS[:2], asks, tmp_path) == timings == read_timings(tmp_path)


def test_timing_with_a_prompt_for_each_question(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    """A question of each prompt makes worked examples ready, but half of the questions are timed in any case."""
    prompts = Prompts(
        default=Prompt(style="qa", max_new_tokens=2), by_task={"b": Prompt(style="bare", max_new_tokens=2)}
    )
    asks = [Ask("What is 1 + 2?", "a"), Ask("What is 2 + 3?", "b")]
    timings = time_methods(world_of(tiny_llm, prompts), METHODS[:1], asks, tmp_path)
    assert {each.questions for each in timings} == {1}
    assert all(each.seconds > 0 and each.start_seconds > 0 for each in timings)


def test_operating_points_are_what_the_rows_say(results: Results) -> None:
    rows = results.rows()
    summary = summarise(rows, 4, {**ROLES, "short": "agent"}, remarks={"identity": ALSO_BEST_STATIC})
    grouped = operating_points(summary, rows, 4)
    assert [point["method"] for point in grouped["baselines"]] == ["identity"]  # the oracle is no operating point
    (point,) = grouped["points"]
    own, base = rows[rows["method"] == "short"], rows[rows["method"] == "identity"]
    assert (point["agent_pass_at_1"], point["identity_pass_at_1"]) == (own["right"].mean(), base["right"].mean())
    assert point["delta"] == pytest.approx(own["right"].mean() - base["right"].mean())
    assert (point["vs_static"], point["static_pass_at_1"]) == (point["delta"], base["right"].mean())
    assert (point["mean_cost"], point["distinct_programs"], point["non_identity_share"]) == (0.75, 1, 1.0)


def test_fewer_layers_and_slower_is_said(results: Results) -> None:
    timings = [
        Timing(name, 32, 18, seconds, 0.0, None, None, token_layers, 0.0)
        for name, seconds, token_layers in (("identity", 0.1, 100.0), ("short", 0.2, 130.0))
    ]
    (note,) = slower_notes(summarise(results.rows(), 4, ROLES, timings=timings))
    assert note.startswith("short executes fewer layers than the identity (0.750 of it) and yet takes 2.00")
    assert slower_notes(summarise(results.rows(), 4, ROLES)) == []


def test_oracle_takes_the_shortest_right_program(results: Results) -> None:
    rows = results.rows()
    oracle = rows[rows["method"] == ORACLE].set_index("question_id")
    assert (oracle.loc[~oracle["right"], "program"] == "0-3").all()  # nothing right was found: the identity stands
    assert (oracle["programs"] > 1).all()
    base = rows[rows["method"] == "identity"].set_index("question_id")["right"]
    of_right = oracle[base[oracle.index]]
    share = shorter_share(rows, 4)
    assert (share is None) == of_right.empty
    if share is not None:
        assert share.value == np.mean(of_right["right"] & (of_right["layers"] < 4))


def test_training_questions_are_refused(questions: list[Question]) -> None:
    twin = twin_hash(Ask("WHAT IS 1 + 4?", equation="1 + 4 ="))
    for split in ("train", "validation"):
        card = SimpleNamespace(name="mine", train_asks=[], validation_asks=[], prose_asks=[])
        setattr(card, f"{split}_asks", [twin])
        with pytest.raises(LeakError, match=f"1 of {len(questions)} questions are {split} questions of the agent"):
            refuse_leaks(questions, [cast("AgentCard", card)], Prompts.for_all(Prompt(style="qa")))


def test_reworded_training_questions_are_refused() -> None:
    """A near-duplicate in prose is no twin by its canonical form; its MinHash is in the card."""
    words = (
        "A farmer in Kent has 12 apple trees and each of them bears about 30 apples in a good year; how many is that"
    )
    other = words.replace("about", "roughly")
    card = SimpleNamespace(name="mine", train_asks=[twin_hash(Ask(words))], validation_asks=[], prose_asks=[])
    asked, prompts = [Question.of(f"{other}?", "360")], Prompts.for_all(Prompt(style="qa"))
    refuse_leaks(asked, [cast("AgentCard", card)], prompts)
    card.prose_asks = [near_hash(Ask(words))]
    with pytest.raises(LeakError, match=r"1 of 1 questions are train or validation questions .* in other words"):
        refuse_leaks(asked, [cast("AgentCard", card)], prompts)
    refuse_leaks([Question.of(other.replace("30", "31"), "372")], [cast("AgentCard", card)], prompts)
    assert near_hash(Ask("What is 3 + 4?")) is None


def test_several_seeds_are_one_agent() -> None:
    """Four trainings of one name: their interquartile mean leaves the best and the worst out."""
    right = {"identity": 0.2, "ppo": 0.3, "ppo (1)": 0.4, "ppo (2)": 0.5, "ppo (3)": 1.0}
    rows = pd.DataFrame(
        [
            {"method": method, "question_id": f"q{i}", "task": "t", "right": i < 100 * share, "right_in_any_form": None,
             "forced": None, "program": "0-3", "cost": 1.0, "flops": 1.0, "agent_flops": 0.0}
            for method, share in right.items()
            for i in range(100)
        ]
    )  # fmt: skip
    roles = {method: "static" if method == "identity" else "agent" for method in right}
    rows["right_in_any_form"] = rows["right"]
    families = {"ppo": [method for method in right if method != "identity"]}
    (over,) = summarise(rows, 4, roles, families=families).over_seeds.values()
    assert over.pass_at_1.value == pytest.approx(0.45)
    assert over.pass_at_1.count == 4
    assert (over.lowest, over.highest) == (0.3, 1.0)
    assert over.deltas["identity"].value == pytest.approx(0.25)
    assert "Over 4 seeds ppo is right on 45.0 % (interquartile mean; " in over.sentence
    assert over.sentence.endswith("So few seeds give no interval.")
    assert over.as_json()["pass_at_1"] == {"value": pytest.approx(0.45), "low": None, "high": None, "seeds": 4}
    assert summarise(rows, 4, roles, families={"ppo": ["ppo"]}).over_seeds == {}


def test_a_repaired_form_is_told_from_a_better_answer() -> None:
    """Of the questions that a method wins, those that the identity has right in another form."""
    answers = {"q0": (False, True), "q1": (False, False), "q2": (True, True), "q3": (False, False)}
    rows = pd.DataFrame(
        [
            {"method": method, "question_id": question, "task": "t", "right": right, "right_in_any_form": lenient,
             "forced": None, "program": "0-3", "cost": 1.0, "flops": 1.0, "agent_flops": 0.0}
            for question, (strict, lenient) in answers.items()
            for method, right in (("identity", strict), ("mine", question != "q3"))
        ]
    )  # fmt: skip
    summary = summarise(rows, 4, {"identity": "static", "mine": "agent"})
    assert summary.form_repair["mine"].value == 0.5
    assert summary.form_repair["mine"].count == 2
    assert "50 % right in another form" in " ".join(summary.sentences)


def test_accuracy_at_equal_cost_has_three_rivals() -> None:
    """The static programs, those of each task, and the identity sampled, each on the questions that both answered."""
    rng = np.random.default_rng(0)
    methods = {
        "identity": (0.3, 1.0, 400, "static"), "best-static": (0.3, 0.9, 400, "static"),
        "best-static-per-task": (0.4, 0.9, 400, "baseline"), "majority 2": (0.3, 2.0, 100, "baseline"),
        "random": (0.1, 1.0, 100, "baseline"), "mine": (0.6, 0.95, 400, "agent"),
    }  # fmt: skip
    rows = pd.DataFrame(
        [
            {"method": method, "question_id": f"q{i}", "task": "t", "right": bool(rng.random() < share),
             "right_in_any_form": False, "forced": None, "program": "0-3", "cost": cost, "flops": 1.0,
             "agent_flops": 0.0}
            for method, (share, cost, count, _) in methods.items()
            for i in range(count)
        ]
    )  # fmt: skip
    summary = summarise(rows, 4, {name: role for name, (*_, role) in methods.items()})
    found = summary.at_equal_cost["mine"]
    assert {key: each.count for key, each in found.items()} == {
        "at_equal_cost": 400, "at_equal_cost_per_task": 400, "at_equal_cost_sampling": 100
    }  # fmt: skip
    assert found["at_equal_cost"].value == pytest.approx(0.3, abs=0.08)
    assert found["at_equal_cost_per_task"].value == pytest.approx(0.2, abs=0.08)
    assert set(found) <= set(summary.as_json()["mine"])
    assert sum("At equal cost mine is above" in sentence for sentence in summary.sentences) == 3
