"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

__all__ = ["machine", "peak_rss_gib"]


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory, accelerator and versions."""
    facts = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        facts["accelerator"] = torch.cuda.get_device_name(device)
    return facts


def peak_rss_gib() -> float:
    """The most resident memory that this process has had, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 30)


def _processor() -> str:
    """The processor's name, and the matrix extensions that decide its speed."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return " ".join([fields.get("model name", ""), *(f for f in wanted if f in fields.get("flags", "").split())])
