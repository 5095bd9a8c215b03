"""What a benchmark ran on."""

from __future__ import annotations

import platform
import resource
import sys
from typing import Any

import psutil
import torch

from polar_env.machine import cores, processor

__all__ = ["machine", "peak_rss_gib"]


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory, accelerator and versions."""
    facts = {
        "processor": processor(),
        "cores": cores(),
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
