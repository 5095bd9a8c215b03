"""The notebook runs from top to bottom, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polar_env.llm import FrozenLLM

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


@pytest.mark.smollm2
def test_the_notebook_runs(smollm2: FrozenLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install 'polar-env[dev]'")
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [_text(cell) for cell in notebook.cells if cell.cell_type == "code"]
    shipped = [_text(cell) for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert shown[:2] == shipped[:2]  # looked up in a table, so the same on every machine
    gain = re.search(r"\| value \|.*\| \+([\d.]+) \[", shown[3])
    assert gain
    assert float(gain[1]) > 5  # points over the best fixed program
    assert re.search(r"agent +68 .*\nidentity", re.sub(r"\n+", "\n", shown[4]))


def _text(cell: dict[str, object]) -> str:
    outputs = cell["outputs"]
    assert isinstance(outputs, list)
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")
