"""What works on this machine: libraries, devices and their speed, memory, the cache, the hub, wandb.

Nothing here needs a network or fails for the lack of one; a library that is missing is said, not raised.
"""

from __future__ import annotations

import math
import netrc
import os
import platform
import re
import shutil
import threading
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from polar_env.assets import ASSETS, cache_folder, is_pulled
from polar_env.machine import cores, processor

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "Library", "cache", "devices", "hub", "libraries", "memory", "python", "wandb"]

DTYPES = ("float32", "bfloat16")
"""The floating-point types whose speed is measured."""
_PACKAGE = "polar-env"
_CPU_SIZE, _ACCELERATOR_SIZE = 512, 4096
"""Rows and columns of the matrices: enough for nearly the full rate, few enough for a processor without bfloat16."""
_SECONDS = 0.3
"""How long each floating-point type is measured."""


@dataclass(frozen=True)
class Library:
    """A library that the package needs, or one that an extra brings.

    Attributes:
        name: its name in the package registry.
        wanted: the versions that the package wants, e.g. ``>=2.6``.
        extra: the extra that installs it; empty for one that is always needed.
        found: the installed version; empty where there is none.
    """

    name: str
    wanted: str
    extra: str
    found: str

    @property
    def mend(self) -> str:
        """The command that installs it."""
        return f"pip install '{_PACKAGE}[{self.extra}]'" if self.extra else f"pip install '{self.name}{self.wanted}'"


def libraries() -> list[Library]:
    """The libraries that the package's own metadata names, those of the developers' extra left out."""
    found = []
    for line in requires(_PACKAGE) or []:
        match = re.fullmatch(r"([\w.-]+)([^;]*?)\s*(?:;\s*extra == ['\"]([\w-]+)['\"])?", line)
        if match and match[3] != "dev":
            found.append(Library(match[1], match[2].strip(), match[3] or "", _version(match[1])))
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def python() -> dict[str, str]:
    """The interpreter, the system, and this package's version."""
    return {"version": platform.python_version(), "system": platform.platform(), "polar_env": version(_PACKAGE)}


def memory() -> dict[str, Any]:
    """Cores, the threads that torch would take, and main memory in GiB; None without torch, or without psutil."""
    try:
        import torch

        threads = torch.get_num_threads()
    except ImportError:
        threads = None
    try:
        import psutil
    except ImportError:
        return {"cores": cores(), "threads": threads, "memory_gib": None, "free_gib": None}
    main = psutil.virtual_memory()
    return {"cores": cores(), "threads": threads, "memory_gib": _gib(main.total), "free_gib": _gib(main.available)}


def devices() -> list[dict[str, Any]]:
    """The devices that torch can use, each with its rate of matrix products; none without torch.

    Returns:
        For each its ``name`` for ``--device``, what it ``is``, and ``gflops``: for each of `DTYPES` 10^9
        floating-point operations a second, None where the device has no such product.
    """
    try:
        import torch
    except ImportError:
        return []
    there = {"cpu": processor()}
    if torch.cuda.is_available():
        there |= {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        there["mps"] = "Apple's GPU"
    rates = {name: {dtype: _gflops(torch.device(name), dtype) for dtype in DTYPES} for name in there}
    return [{"name": name, "is": what, "gflops": rates[name]} for name, what in there.items()]


def _gflops(device: torch.device, dtype: str) -> float | None:
    """The rate of a square matrix product: the best of those that fit in the time."""
    import torch

    size = _CPU_SIZE if device.type == "cpu" else _ACCELERATOR_SIZE
    try:
        matrix = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
        float((matrix @ matrix)[0, 0])  # warms up
        best, ends = math.inf, time.perf_counter() + _SECONDS
        while math.isinf(best) or time.perf_counter() < ends:
            started = time.perf_counter()
            float((matrix @ matrix)[0, 0])  # reading a number waits for the device
            best = min(best, time.perf_counter() - started)
    except (RuntimeError, TypeError):
        return None
    return round(2 * size**3 / best / 1e9, 1)


def cache() -> dict[str, Any]:
    """The cache folder, the room on its disk in GiB, and which named models lie in it."""
    folder = cache_folder()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    assets = {name: is_pulled(name) for name in ASSETS}
    return {"folder": str(folder), "free_gib": _gib(shutil.disk_usage(there).free), "assets": assets}


def hub(timeout: float = 3.0) -> dict[str, Any]:
    """Whether the Hugging Face hub answers when it is asked about a named model.

    Args:
        timeout: seconds after which it does not; finding its address counts, too.

    Returns:
        Its address, whether it ``answers``, and ``why`` not.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        return {"address": "", "answers": False, "why": "huggingface_hub is not installed"}
    said = {"answers": False, "why": f"no answer within {timeout:g} s"}
    asking = threading.Thread(target=lambda: said.update(_ask_hub(timeout)), daemon=True)
    asking.start()
    asking.join(timeout)
    return {"address": constants.ENDPOINT, **said}


def _ask_hub(timeout: float) -> dict[str, Any]:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(next(iter(ASSETS.values())).hub_id, timeout=timeout)
    except Exception as error:  # whatever is wrong with a network is an answer, too
        lines = str(error).strip().splitlines()
        return {"answers": False, "why": f"{type(error).__name__}: {lines[0][:160] if lines else ''}".rstrip(": ")}
    return {"answers": True, "why": ""}


def wandb() -> dict[str, Any]:
    """Whether there is a key for Weights & Biases, and the mode that a training would log in."""
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        known = False
    return {"key": known or bool(os.environ.get("WANDB_API_KEY")), "mode": os.environ.get("WANDB_MODE", "offline")}


def _gib(count: int) -> float:
    return round(count / (1 << 30), 1)
