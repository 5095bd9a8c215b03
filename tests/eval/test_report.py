"""The report of a few made-up results: eight layers, six questions, three methods."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.evaluate import ORACLE, Results
from eval.report import write_report
from eval.report.examples import choose_examples
from eval.summary import summarise, summary_table, task_table
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
META = {
    "model": "tiny",
    "fingerprint": "f",
    "depth": DEPTH,
    "dtype": "float32",
    "prompts": {"default": {"style": "bare", "examples": []}},
}


def result(method: str, number: int) -> dict[str, Any]:
    program = PROGRAMS[method][number]
    layers = len(Program.parse(program))
    return {
        "method": method,
        "question_id": f"q{number}",
        "task": ("sums", "words")[number % 2],
        "text": f"Is {number} < 3 & is it $even$?",
        "answer": "yes",
        "program": program,
        "right": RIGHT[method][number] == "1",
        "layers": layers,
        "cost": layers / DEPTH,
        "log_prob": -1.0,
        "method_id": method,
        "token_layers": 100.0,
        "agent_flops": 0.0,
        "decide_seconds": 0.001,
        "seconds": 0.01,
        "programs_tried": 1,
    }


def results_of(folder: Path, *methods: str) -> Results:
    results = Results(folder / "results")
    results.folder.mkdir()
    (results.folder / "results.json").write_text(json.dumps(META))
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
    verdicts = Table(("a", "b|c"), [("1", "<2>")])
    page = write_report(tmp_path, results, ["<b> & more"], verdicts).read_text(encoding="utf-8")
    markdown = (tmp_path / "table.md").read_text(encoding="utf-8")
    tables = summary_table(summarise(results.rows(), DEPTH)), task_table(results.rows()), verdicts
    assert Cells(page).rows == [list(row) for table in tables for row in (table.header, *table.rows)]
    assert all(table.markdown() in markdown for table in tables)
    assert "| a | b\\|c |\n|---|---|\n| 1 | <2> |" in markdown
    assert "<b> & more" in markdown
    assert "oracle (upper bound)" in page


def test_page_stands_alone_and_escapes_texts(tmp_path: Path) -> None:
    results = results_of(tmp_path, *PROGRAMS)
    page = write_report(tmp_path, results, ["<b> & more"]).read_text(encoding="utf-8")
    assert "&lt;b&gt; &amp; more" in page
    assert "Is 0 &lt; 3 &amp; is it $even$?" in page
    assert "http" not in page
    examples = choose_examples(results.rows(), DEPTH)
    assert page.count("data:image/png;base64,") == 2 * (2 + len(examples))  # each for a light and for a dark page
    figures = {path.name: path.stat().st_size for path in (tmp_path / "figures").iterdir()}
    assert set(figures) == {"accuracy.png", "executions.png", "programs.png"}
    assert min(figures.values()) > 3000
    assert "generated answers" not in page


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
