"""Settings of torch and its libraries that cost or save much time on CPUs."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

__all__ = ["prepare_process", "return_freed_memory", "torch_threads"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt(3) parameters."""


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run a block (or, as a decorator, a function) with ``count`` torch threads.

    A policy's small network is several times faster on one, the LLM on all.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_process() -> None:
    """What a program that owns its process sets once, before it loads a model; the library never does by itself.

    Transformers' progress bars and its messages below errors are switched off, unless ``TRANSFORMERS_VERBOSITY`` says
    otherwise, and freed memory is kept for the next tensors.
    """
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(os.environ.get("TRANSFORMERS_VERBOSITY", "error").upper())
    _keep_freed_memory()


@cache
def _keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks for the next tensors, instead of giving them back to the system each time.

    Every layer makes tensors of some megabytes; having the system clear their pages anew each time took a fifth of the
    time of 960 verdicts on two cores (39 s against 31 s). Where the user has set ``MALLOC_*`` variables, or another
    allocator is loaded, nothing is changed.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give back to the system what lies unused between blocks in use; the counterweight to `prepare_process`.

    Kept states leave and enter among large short-lived tensors, and the holes between them grow without bound.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
