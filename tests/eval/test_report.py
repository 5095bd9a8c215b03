"""The report of a few made-up results: eight layers, six questions, three methods."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.agreement import agreement_table, disagreements
from eval.methods import ORACLE
from eval.prompts import PromptChoice, read_choices, write_choices
from eval.report import summary_of, write_report
from eval.report.examples import choose_examples, contrasts
from eval.results import PROTOCOL_VERSION, Results
from eval.statistics import Estimate, share
from eval.summary_tables import comparison_table, method_table, task_table
from eval.table import Table
from polar_env.program import Program

DEPTH = 8
IDENTITY = "0-7"
PROGRAMS = {
    "identity": [IDENTITY] * 6,
    "ppo": ["0-5 7", "0-2x2 3-7", IDENTITY, "0-5 7", "0 2-7", "0-6 7x3"],
    ORACLE: ["0-3 5-7", "0-5 7", IDENTITY],
}
RIGHT = {"identity": "100100", "ppo": "110110", ORACLE: "111"}
ROLES = {"identity": "static", "ppo": "agent", ORACLE: "oracle"}


def meta_of(*methods: str) -> dict[str, Any]:
    return {
        "protocol_version": PROTOCOL_VERSION,
        "model": "<tiny>",
        "fingerprint": "f",
        "depth": DEPTH,
        "dtype": "float32",
        "device": "cpu",
        "versions": {"torch": "2"},
        "prompts": {"default": {"style": "bare", "examples": []}},
        "methods": {
            method: {
                "name": method,
                "role": ROLES[method],
                "limit": None,
                "card": None,
                "family": None,
                "chosen_on": None,
            }
            for method in methods
        },
        "remarks": {ORACLE: "upper bound"},
        "config": {"seed": 0},
    }


def result(method: str, number: int) -> dict[str, Any]:
    program = PROGRAMS[method][number]
    layers = len(Program.parse(program))
    return {
        "method": method,
        "question_id": f"q{number}",
        "task": ("sums", "words")[number % 2],
        "text": f"Is {number} < 3 & is it $even$?",
        "gold": "yes",
        "answer": "yes" if RIGHT[method][number] == "1" else "no|",
        "right": RIGHT[method][number] == "1",
        "right_in_any_form": RIGHT[method][number] == "1" if method == "identity" else None,
        "forced": number != 3 and RIGHT[method][number] == "1" if method != ORACLE else None,
        "program": program,
        "programs": 1,
        "layers": layers,
        "cost": layers / DEPTH,
        "log_prob": -1.0,
        "confidence": 0.1 * number,
        "method_id": method,
        "flops": 1e9,
        "agent_flops": 0.0,
    }


def results_of(folder: Path, *methods: str) -> Results:
    results = Results(folder / "results")
    results.folder.mkdir()
    (results.folder / "results.json").write_text(json.dumps(meta_of(*methods)))
    results.append([result(method, number) for method in methods for number in range(len(PROGRAMS[method]))])
    return results


class Cells(HTMLParser):
    """Reads the table cells of a page, heads too."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._inside = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self._inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def test_page_and_markdown_show_the_same_rows(tmp_path: Path) -> None:
    results = results_of(tmp_path, *PROGRAMS)
    page = write_report(tmp_path, results).read_text(encoding="utf-8")
    markdown = (tmp_path / "table.md").read_text(encoding="utf-8")
    summary, rows = summary_of(results), results.rows()
    tables = [
        method_table(summary),
        comparison_table(summary.comparisons["vs_identity"], None, summary.form_repair),
        task_table(summary),
    ]
    verdicts = agreement_table(rows)
    assert verdicts is not None
    shown = Cells(page).rows
    for table in (*tables, verdicts):
        assert all(list(row) in shown for row in (table.header, *table.rows))
        assert table.markdown() in markdown
    differing = disagreements(rows)
    assert differing is not None
    assert [row[0] for row in differing.rows] == ["identity", "ppo"]
    assert all(list(row) in shown for row in differing.rows)
    assert all(sentence in markdown for sentence in summary.sentences)
    assert "oracle (upper bound)" in page


def test_page_stands_alone_and_escapes_texts(tmp_path: Path) -> None:
    results = results_of(tmp_path, *PROGRAMS)
    page = write_report(tmp_path, results).read_text(encoding="utf-8")
    assert "&lt;tiny&gt;" in page
    assert "Is 0 &lt; 3 &amp; is it $even$?" in page
    assert "http" not in page
    examples = choose_examples(results.rows(), DEPTH)
    figures = {path.name: path.stat().st_size for path in (tmp_path / "figures").iterdir()}
    names = {"headline", "accuracy", "tasks", "executions", "task_executions"}
    assert set(figures) == {f"{name}.png" for name in (*names, "programs")}
    assert page.count("data:image/png;base64,") == 2 * (len(names) + len(examples))  # for a light and for a dark page
    assert min(figures.values()) > 3000


def test_questions_won_and_lost_stand_side_by_side(tmp_path: Path) -> None:
    results = results_of(tmp_path, *PROGRAMS)
    method, base, shown = contrasts(results.rows(), summary_of(results))
    assert (method, base) == ("ppo", "identity")
    assert [(one.won, one.answer, one.base_answer, one.program) for one in shown] == [
        (True, "yes", "no|", "0-2x2 3-7"), (True, "yes", "no|", "0 2-7")
    ]  # fmt: skip


def test_examples_are_distinct_and_right_ones_come_first(tmp_path: Path) -> None:
    examples = choose_examples(results_of(tmp_path, *PROGRAMS).rows(), DEPTH)
    chosen = [(example.method, str(example.program), example.verdict) for example in examples]
    assert chosen == [
        ("ppo", "0-2x2 3-7", "right (identity wrong)"),
        ("ppo", "0 2-7", "right (identity wrong)"),
        ("ppo", "0-5 7", "right (identity right)"),
        ("ppo", "0-6 7x3", "wrong (identity wrong)"),
        (ORACLE, "0-3 5-7", "right (identity right)"),
    ]


def test_page_without_other_programs(tmp_path: Path) -> None:
    page = write_report(tmp_path, results_of(tmp_path, "identity")).read_text(encoding="utf-8")
    assert "Every method chose the identity program" in page
    assert not (tmp_path / "figures" / "programs.png").exists()


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the header 2"):
        Table(("a", "b"), [("1",)])


def test_how_the_prompt_was_chosen_is_said(tmp_path: Path) -> None:
    results = results_of(tmp_path, *PROGRAMS)
    assert "How the prompt was chosen" not in write_report(tmp_path, results).read_text(encoding="utf-8")
    shares = {"qa-6": share([True] * 30 + [False] * 70), "bare-6": share([True] * 28 + [False] * 72)}
    behind = {"bare-6": Estimate(0.02, -0.01, 0.05, 100)}
    choice = PromptChoice("all", "qa-6", shares, behind, ["bare-6"], 0.013, 100)
    write_choices(results.folder, [choice])
    assert read_choices(results.folder) == [choice]
    page = write_report(tmp_path, results).read_text(encoding="utf-8")
    assert "How the prompt was chosen" in page
    shown = ["all", "100", shares["qa-6"].percent(), shares["bare-6"].percent(), "qa-6", "bare-6", "1.3"]
    assert shown in Cells(page).rows
