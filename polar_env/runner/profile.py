"""What suits a device: how much work one call takes, and how much memory may be filled."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from polar_env.errors import MemoryBoundError
from polar_env.llm.frozen import FrozenLLM

__all__ = ["DeviceProfile", "memory_beside", "memory_with"]

_HOST_BYTES = 4 << 30
"""On a CPU, memory is shared with everything else that runs: no more than this is taken unless the user says so."""
_HOST_SHARE, _DEVICE_SHARE = 0.5, 0.7
_LIBRARIES_BYTES = 3 << 29
"""What Python, torch, transformers and plots take in main memory, with room for what an allocator leaves unused."""


@dataclass(frozen=True)
class DeviceProfile:
    """Sizes of work that suit a device.

    Attributes:
        batch_tokens: most tokens in one call of a layer, unless one text has more.
        merge_below: rows behind contexts of other lengths join one batch where fewer tokens than this are alike.
        padding: most padding in a batch, as a share of its tokens.
        small_tokens: a batch of fewer tokens may have more padding: matrix products of few rows are slow anyway.
        read_out_rows: positions whose logits are computed at once.
        decode_rows: rows that generate together.
        memory_bytes: bound of weights, libraries and all that is kept, by what the device has.
    """

    batch_tokens: int
    merge_below: int
    padding: float
    small_tokens: int
    read_out_rows: int
    decode_rows: int
    memory_bytes: int

    @classmethod
    def of(cls, device: torch.device) -> DeviceProfile:
        """The profile of a device.

        On a CPU larger batches are slower, since activations leave its cache (measured on two cores: 1,024 tokens of a
        layer of width 576 run at the full rate of matrix products). An accelerator wants large batches and pays for
        every call, so rows join wherever they can.
        """
        if device.type == "cpu":
            memory = min(_HOST_BYTES, int(_HOST_SHARE * psutil.virtual_memory().total))
            return cls(
                batch_tokens=1024, merge_below=128, padding=0.03, small_tokens=128, read_out_rows=64, decode_rows=64,
                memory_bytes=memory,
            )  # fmt: skip
        return cls(
            batch_tokens=16_384, merge_below=4096, padding=0.25, small_tokens=2048, read_out_rows=1024, decode_rows=256,
            memory_bytes=int(_DEVICE_SHARE * _device_bytes(device)),
        )  # fmt: skip


def _device_bytes(device: torch.device) -> int:
    """Memory of an accelerator, as the device itself says."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(psutil.virtual_memory().total)


def memory_beside(llm: FrozenLLM, profile: DeviceProfile, memory_gib: float = 0.0) -> int:
    """Bytes that a memory bound leaves beside the model's weights and the libraries.

    Args:
        llm: the model.
        profile: gives the bound that suits the device.
        memory_gib: the bound in GiB; 0 takes the profile's, or the libraries and twice the weights where that is more.

    Raises:
        MemoryBoundError: if nothing is left; says how much is needed.
    """
    weights, libraries = _weights_and_libraries(llm)
    bound = int(memory_gib * (1 << 30)) or max(profile.memory_bytes, libraries + 2 * weights)
    if bound <= libraries + weights:
        raise MemoryBoundError(
            f"the memory bound of {memory_gib} GiB is too small: the weights of {llm.name} take "
            f"{weights / (1 << 30):.2f} GiB and the libraries about {libraries / (1 << 30):.2f} GiB. Give --memory-gib "
            f"{2 * (libraries + weights) / (1 << 30):.1f} or more."
        )
    return bound - libraries - weights


def memory_with(llm: FrozenLLM, kept: int) -> int:
    """Bytes in all where so many are kept beside the model's weights and the libraries; see `memory_beside`."""
    return kept + sum(_weights_and_libraries(llm))


def _weights_and_libraries(llm: FrozenLLM) -> tuple[int, int]:
    """Bytes of both, where the model lies."""
    weights = sum(int(parameter.nbytes) for parameter in llm.model.parameters())
    return weights, _LIBRARIES_BYTES if llm.device.type == "cpu" else 0
