"""Findings on rows that are known by hand: four layers, six questions."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eval.analysis import Coverage, analyse
from eval.analysis_report import write_analysis
from eval.rechecks import Rechecks, recheck
from eval.statistics import Estimate, mean, paired_difference, share
from polar_env.cli.traces import open_traces
from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld
from tests.polar_env.traces.test_traces import collected

DEPTH = 4
IDENTITY, SKIP, REPEAT, BOTH = "0-3", "0-1 3", "0-1x2 2-3", "0x2 2-3"
VERDICTS = {  # question: right under identity, skip, repeat, both
    "a": (True, True, False, False),
    "b": (True, False, True, False),
    "c": (False, True, False, False),
    "d": (False, False, True, True),
    "e": (False, False, False, False),
    "f": (True, True, True, True),
}


def row(question: str, program: str, right: bool, stage: str, step: int) -> dict[str, Any]:
    layers = len(Program.parse(program))
    known = {"task": "sums", "difficulty": "hard" if question in "abc" else "easy"}
    known["split"] = "train" if question in "abcd" else "validation"
    return {
        "question_id": question,
        "program": program,
        "right": right,
        "stage": stage,
        "order": step,
        "layers": layers,
    } | known


@pytest.fixture
def table() -> pd.DataFrame:
    programs = (IDENTITY, SKIP, REPEAT, BOTH)
    trees = [
        row(question, program, right, "tree", step)
        for question, verdicts in VERDICTS.items()
        for step, (program, right) in enumerate(zip(programs, verdicts, strict=True))
    ]
    chance = [row(question, "0-2", question in "ac", "chance", 0) for question in VERDICTS]
    raced = [{**row, "stage": "matrix", "order": 0} for row in trees]
    singles = [row(question, "0 2-3", question in "ef", "singles", 0) for question in "bef"]
    return pd.DataFrame(trees + chance + singles + raced)


def test_shares_with_what_luck_finds(table: pd.DataFrame) -> None:
    found = analyse(table, DEPTH)
    assert found.programs == 3
    whole = found.overall
    assert whole.questions == 6
    assert whole.identity == share([True, True, False, False, False, True])
    assert whole.search.shorter == share([True, False, True])  # a and f by the skip
    assert whole.search.fixed == share([True, True, False])
    assert whole.search.shortest == mean([3 / 4, 1, 3 / 4])  # b's only other right program is longer
    assert whole.search.search_gain is None
    assert whole.chance.shorter == share([True, False, False])
    assert whole.chance.fixed == share([True, False, False])
    assert whole.chance.search_gain == paired_difference([True, True, False], [True, False, False])
    assert (whole.chance.search_won, whole.chance.search_lost) == (1, 0)  # d by the search alone
    assert whole.chance.search_p == 1.0
    assert whole.singles.shorter == share([False, True])  # of the questions that have them: b, f
    assert whole.singles.search_gain == mean([-1.0])  # and e, on which the search found nothing


def test_kinds_groups_and_lengths(table: pd.DataFrame) -> None:
    found = analyse(table, DEPTH)
    reached = {kind: (tried, c.shorter, c.fixed) for kind, (tried, c) in found.by_kind.items()}
    assert reached["skip only"] == (6, share([True, False, True]), share([True, False, False]))
    assert reached["repeat only"] == (6, share([False] * 3), share([False, True, False]))
    assert reached["both"] == (6, share([False] * 3), share([False, True, False]))
    hard = found.by_group["sums", "hard"]
    assert hard.questions == 3
    assert hard.identity == share([True, True, False])
    assert hard.search.fixed == hard.chance.fixed == share([True])
    assert hard.lengths == mean([3 / 4, 1, 3 / 4])
    assert sorted(found.lengths["layers"]) == [3, 3, 3, 4, 4]
    assert found.overall.lengths is not None
    assert found.overall.lengths.value == pytest.approx(17 / 5 / DEPTH)
    assert found.shortest_5_cost is not None
    assert found.shortest_5_cost.value == 3 / DEPTH


def test_layers_of_right_programs(table: pd.DataFrame) -> None:
    found = analyse(table, DEPTH)
    right = [SKIP] * 3 + [REPEAT] * 3 + [BOTH] * 2
    executions = np.array([Program.parse(program).executions(DEPTH) for program in right])
    np.testing.assert_allclose(found.right_use.skipped, (executions == 0).mean(0))
    np.testing.assert_allclose(found.right_use.repeated, (executions > 1).mean(0))
    p = executions.sum(0) / executions.sum()
    entropy = found.right_use.entropy
    assert entropy is not None
    assert entropy.value == pytest.approx(-(p * np.log(p)).sum() / np.log(DEPTH))
    assert entropy.low < entropy.value < entropy.high
    assert entropy.count == 5  # questions with such a program
    assert found.all_use.programs == 18


def test_the_menu_is_chosen_on_train_questions_and_measured_on_others(table: pd.DataFrame) -> None:
    menu = analyse(table, DEPTH).menu
    assert [point.added for point in menu] == [IDENTITY, SKIP, REPEAT]  # of a to d the skip adds c, the repeat d
    assert [point.chosen_on for point in menu] == pytest.approx([0.5, 0.75, 1.0])
    assert [point.held_out for point in menu] == [share([False, True])] * 3  # e and f
    assert analyse(table[table["split"] == "train"], DEPTH).menu == []


def test_a_search_without_the_identity_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(TraceError, match="has a verdict of the identity"):
        analyse(table[table["program"] != IDENTITY], DEPTH)


def test_nothing_to_tell_is_told(table: pd.DataFrame) -> None:
    """Without wrong questions, chance or shared programs there is no such share, and the page says so."""
    found = analyse(table[(table["question_id"] == "a") & (table["stage"] == "tree")], DEPTH)
    assert found.overall.search.fixed is None
    assert found.overall.chance == Coverage()
    assert found.menu == []


def test_the_page_its_figures_and_data(tmp_path: Path, table: pd.DataFrame) -> None:
    about = {"model": "tiny", "depth": DEPTH, "dtype": "float32", "fingerprint": "f", "prompt": "qa-0"}
    work = {"simulations": 18, "sharing_factor": 3.0, "layer_executions": 30, "seconds": 1.5}
    page = write_analysis(tmp_path, analyse(table, DEPTH), None, about, work).read_text()
    assert "| of these, a shorter program is, too | 66.7 [20.8, 93.9] of 3 | 33.3 [6.1, 79.2] of 3 | 50.0 [" in page
    assert "| of the others, the search fixes so many points more | - | +33.3 [" in page
    assert "sharing 3.0 times as many tokens" in page
    for name in ("shares", "layers", "menu"):
        assert f"({name}.svg)" in page
        assert (tmp_path / f"{name}.png").stat().st_size > 3000
    assert (tmp_path / "layers.csv").read_text().splitlines()[3].startswith("2,")
    lengths = (tmp_path / "lengths.csv").read_text().splitlines()
    assert lengths[:2] == ["question_id,task,difficulty,layers", "a,sums,hard,3"]
    assert len(lengths) == 6
    groups = pd.read_csv(tmp_path / "groups.csv")
    assert set(groups["source"]) == {"identity", "search", "chance", "singles"}
    before = (tmp_path / "shares.svg").read_bytes()
    write_analysis(tmp_path, analyse(table, DEPTH), None, about, work)
    assert (tmp_path / "shares.svg").read_bytes() == before  # the same analysis is the same file


def test_the_page_of_the_shipped_example(tmp_path: Path) -> None:
    """A golden file: the traces of ``examples/mathematics`` make the page beside them again."""
    example = Path(__file__).parents[2] / "examples" / "mathematics"
    traces = open_traces(example)
    shares = json.loads((example / "analysis" / "analysis.json").read_text())
    rechecks = Rechecks(**{f.name: shares[f.name] and Estimate(**shares[f.name]) for f in fields(Rechecks)})
    about = traces.meta | {"prompt": traces.prompts.name}
    page = write_analysis(tmp_path, analyse(traces.table(), traces.depth), rechecks, about, traces.work)
    assert page.read_text() == (example / "analysis" / "analysis.md").read_text()


def test_rechecks_find_a_verdict_that_does_not_stand(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    traces = collected(tmp_path, world, questions[:4])
    table = traces.table()
    assert recheck(world, table, questions, 20, 0).changed.value == 0.0  # type: ignore[union-attr]
    lied = table.assign(right=~table["right"])
    assert recheck(world, lied, questions, 20, 0).changed.value == 1.0  # type: ignore[union-attr]


def test_needless_changes_are_found(world: LiveWorld, questions: list[Question]) -> None:
    """A fix whose parts are known: the verdicts of what is left of it decide."""
    rows = [
        {"question_id": q.id, "stage": "tree", "order": step, "program": p, "right": bool(step)}
        for q in questions
        for step, p in enumerate(["0-3", "0x2 2-3"])
    ]
    found = recheck(world, pd.DataFrame(rows), questions, len(questions), 0)
    left = {
        q.id: [v.right for v in world.verdicts([(q, Program.parse(p)) for p in ("0x2 1-3", "0 2-3")])]
        for q in questions
    }
    assert found.needless == share([any(right) for right in left.values()])
    assert found.survives is not None
    assert np.mean([all(r) for r in left.values()]) <= found.survives.value <= found.needless.value
