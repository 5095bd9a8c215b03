"""`polar verify` says yes to an exact world, and no to each of the mistakes that are made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from polar_env.cli import main
from polar_env.llm import FrozenLLM
from polar_env.llm.cache import ProgramCache, Visit
from polar_env.runner.verify import CHECKS, cases, verify
from tests.conftest import character_tokenizer, tiny_llama
from tests.models import build


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2_moe", "gpt_neox"])
def test_an_exact_executor_passes(family: str) -> None:
    findings = verify(FrozenLLM(build(family), character_tokenizer()))
    assert len(findings) == len(cases(4)) * len(CHECKS) + 2
    assert not [finding for finding in findings if not finding.ok]


@pytest.mark.parametrize("depth", [1, 2, 3, 30])
def test_cases_fit_any_depth(depth: int) -> None:
    assert all(program.check(depth) for program in cases(depth).values())


def test_one_slot_for_each_layer_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake of the published executors: a second visit of a layer reads and overwrites the first one's slot."""
    whole = ProgramCache.slot

    def slot_of_first_visit(cache: ProgramCache, visit: Visit) -> Any:
        first = [cache.programs[row].layers.index(visit.layer) for row in visit.rows]
        return whole(cache, Visit(visit.layer, visit.rows, tuple(first)))

    llm = FrozenLLM(tiny_llama(), character_tokenizer())  # whole: loading refuses an executor that is wrong
    monkeypatch.setattr(ProgramCache, "slot", slot_of_first_visit)
    findings = verify(llm)
    wrong = {finding.case for finding in findings if not finding.ok}
    assert {"repeat a layer", "repeat a module", "repeat the first", "repeat the last"} <= wrong
    assert not {"identity", "skip", "skip layer 0", "any order", "one layer"} & wrong


def test_a_mask_that_is_ignored_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FrozenLLM.run

    def without_mask(llm: FrozenLLM, ids: torch.Tensor, programs: Any, cache: Any = None, *args: Any, **_: Any) -> Any:
        return run(llm, ids, programs, cache)

    llm = FrozenLLM(tiny_llama(), character_tokenizer())  # whole: loading refuses an executor that is wrong
    monkeypatch.setattr(FrozenLLM, "run", without_mask)
    wrong = {finding.check for finding in verify(llm) if not finding.ok}
    assert "left pad" in wrong
    assert "one row" not in wrong


def test_rows_that_read_each_others_slots_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a batch of different programs shows it: where all rows run the same one, they move together."""
    whole = ProgramCache.slot

    def slot_of_another_row(cache: ProgramCache, visit: Visit) -> Any:
        mixed = len(set(cache.programs)) > 1 and len(visit.rows) > 1
        rows = (visit.rows[1], visit.rows[0], *visit.rows[2:]) if mixed and cache.length else visit.rows
        at = visit.positions
        positions = (at[1], at[0], *at[2:]) if mixed and cache.length else at
        return whole(cache, Visit(visit.layer, rows, positions))

    llm = FrozenLLM(tiny_llama(), character_tokenizer())  # whole: loading refuses an executor that is wrong
    monkeypatch.setattr(ProgramCache, "slot", slot_of_another_row)
    wrong = {finding.case for finding in verify(llm) if not finding.ok}
    assert wrong == {"all in one batch"}


def test_settings_for_sampling_and_nan_are_no_false_alarm() -> None:
    """A model that ships a repetition penalty passes; where transformers itself makes NaN, the table says so."""
    model = tiny_llama()
    model.generation_config.repetition_penalty = 1.5
    assert all(finding.ok for finding in verify(FrozenLLM(model, character_tokenizer())))
    findings = verify(FrozenLLM(build("llama", torch.float64, "eager"), character_tokenizer()))
    wrong = {finding.check for finding in findings if not finding.ok}
    assert wrong == {"left pad", "left pad, cache"}
    assert all(finding.difference == float("inf") for finding in findings if not finding.ok)


def test_the_command_prints_a_table_and_a_verdict(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tiny_folder)]) == 0
    shown = capsys.readouterr()
    assert "repeat a module" in shown.out
    assert "every program runs exactly" in shown.err
    assert main(["verify", str(tiny_folder), "--json", "--dtype", "float64"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["cases"], result["failed"]) == (65, 0)
    assert result["max_logit_difference"] < 1e-9


def test_the_command_fails_where_anything_disagrees(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FrozenLLM.run

    def slightly_off(llm: FrozenLLM, ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return run(llm, ids, *args, **kwargs) * (1 + 1e-3 * torch.arange(llm.width) / llm.width)

    monkeypatch.setattr("polar_env.llm.FrozenLLM.run", slightly_off)
    monkeypatch.setattr("polar_env.llm.frozen.admit", lambda _: None)
    assert main(["verify", str(tiny_folder), "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["failed"] > 0
    assert "differs: skip, one row:" in shown.err


def test_export_from_the_command_line(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", "--model", str(tiny_folder), "--program", "0 2-3x2", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["layers"], result["program"]) == (5, "0 2-3x2")
    assert result["max_logit_difference"] < 1e-4
    assert main(["verify", str(out), "--json"]) == 0
    assert main(["export", "--model", str(tiny_folder), "--program", "0 2", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["export", "--model", str(tiny_folder), "--program", "0 9", str(tmp_path / "new")]) == 2
    assert "layer 9 is out of range" in capsys.readouterr().err
    assert main(["export", "--model", str(tiny_folder)]) == 2
    assert "give a folder or a .gguf file, and a program or an agent" in capsys.readouterr().err


def test_execution_is_measured_on_a_model_without_a_chat_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks no questions, so no prompt may stand in its way."""
    folder = tmp_path / "plain"
    tiny_llama().save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    arguments = ["--model", str(folder), "--seconds", "0.01", "--generations", "20", "--out", str(tmp_path)]
    assert main(["bench", "execution", *arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "bench.jsonl").read_text()) == printed
    assert printed["identity_prefill_ratio"] > 0
