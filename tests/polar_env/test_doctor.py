from __future__ import annotations

import json
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch

from polar_env import doctor
from polar_env.cli import main

METADATA = ["torch>=2.6", "nothing-like-it>=1.5", 'ray>=2.40; extra == "ray"', "ruff>=0.12; extra == 'dev'"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=lambda *_, **__: None))
    monkeypatch.setattr(doctor, "_SECONDS", 0.01)


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {library["name"] for library in result["libraries"]} >= {"torch", "transformers", "gymnasium", "wandb"}
    assert result["devices"][0]["name"] == "cpu"
    assert result["devices"][0]["gflops"]["float32"] > 0
    assert result["hub"]["answers"]
    assert result["memory"]["threads"] == torch.get_num_threads()


def test_the_table_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("Python", "torch", "device cpu", "bfloat16", "memory", "cache", "hub", "wandb"):
        assert word in shown


def test_a_missing_library_fails_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: METADATA)
    assert main(["doctor", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["failed"] == 1
    assert "pip install 'nothing-like-it>=1.5'" in captured.err


def test_libraries_by_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            return "2.13.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", lambda _: METADATA)
    monkeypatch.setattr(doctor, "version", version)
    there, missing, optional = doctor.libraries()  # what developers need is left out
    assert (there.name, there.wanted, there.found) == ("torch", ">=2.6", "2.13.0")
    assert (missing.found, missing.mend) == ("", "pip install 'nothing-like-it>=1.5'")
    assert (optional.name, optional.mend) == ("ray", "pip install 'polar-env[ray]'")


def test_without_torch_the_rest_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.devices() == []
    assert doctor.memory()["threads"] is None
    assert main(["doctor"]) == 0
    assert "memory" in capsys.readouterr().out


def test_a_type_that_a_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DTYPES", ("float32", "float4_e2m1fn_x2"))
    rates = doctor.devices()[0]["gflops"]
    assert rates["float32"] > 0
    assert rates["float4_e2m1fn_x2"] is None


def _refuse(*_: Any, **__: Any) -> None:
    raise ConnectionError("no route\nto host")


@pytest.mark.parametrize(
    ("answer", "why"), [(_refuse, "ConnectionError: no route"), (lambda *_, **__: time.sleep(5), "no answer within")]
)
def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, answer: Any, why: str) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=answer))
    started = time.perf_counter()
    said = doctor.hub(timeout=0.5)
    assert time.perf_counter() - started < 4
    assert not said["answers"]
    assert why in said["why"]


def test_a_cache_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POLAR_HOME", str(tmp_path / "not" / "yet"))
    said = doctor.cache()
    assert said["free_gib"] > 0
    assert not any(said["assets"].values())
    assert not (tmp_path / "not").exists()


def test_a_key_for_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "online")
    assert doctor.wandb() == {"key": False, "mode": "online"}
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert doctor.wandb()["key"]
    (tmp_path / "netrc").write_text("no such format")
    assert not doctor.wandb()["key"]
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert doctor.wandb()["key"]


def test_bad_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--hub-seconds", "0"])
    assert stop.value.code == 2
    assert "hub" in capsys.readouterr().err
