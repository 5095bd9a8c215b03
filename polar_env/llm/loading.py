"""From a name, a folder or a hub id to a `FrozenLLM`."""

from __future__ import annotations

from pathlib import Path

import torch

from polar_env.assets import ASSETS, asset_path
from polar_env.errors import ModelError, UnknownNameError
from polar_env.llm.fastest import fastest_dtype
from polar_env.llm.frozen import FrozenLLM

__all__ = ["load_llm"]


def load_llm(model: str, *, dtype: str = "float32", device: str = "cpu", attention: str = "") -> FrozenLLM:
    """Load a frozen LLM.

    Args:
        model: a named asset (``smollm2-135m``), a local folder, or a hub id (``owner/name``).
        dtype: torch's name of the floating-point type; ``auto`` measures whether bfloat16 is clearly faster here than
            float32 (see `fastest_dtype`).
        device: torch's name of the device.
        attention: transformers' name of the attention implementation; empty for the one that it chooses.

    Raises:
        UnknownNameError: for a name that is none of the three.
        ModelError: if what lies there cannot be loaded as a decoder-only language model, or cannot be executed layer by
            layer.
    """
    if model in ASSETS:
        source = str(asset_path(model))
    elif Path(model).expanduser().is_dir():
        source = str(Path(model).expanduser())
    elif model.count("/") == 1 and not model.startswith((".", "/", "~")):
        source = model
    else:
        raise UnknownNameError("model", model, ASSETS, "Or give a local folder, or a hub id 'owner/name'.")
    if dtype == "auto":
        llm = _load(model, source, torch.bfloat16, device, attention)
        best = fastest_dtype(llm)
        return llm if best is llm.dtype else _load(model, source, best, device, attention)
    torch_dtype = getattr(torch, dtype, None)
    if not (isinstance(torch_dtype, torch.dtype) and torch_dtype.is_floating_point):
        raise UnknownNameError("dtype", dtype, ["float32", "bfloat16", "float16", "float64", "auto"])
    return _load(model, source, torch_dtype, device, attention)


def _load(model: str, source: str, dtype: torch.dtype, device: str, attention: str) -> FrozenLLM:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        loaded = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation=attention or None)
        loaded.to(torch.device(device))  # type: ignore[arg-type]
        if dtype is torch.float64:
            loaded.set_experts_implementation("eager")  # torch's grouped products have no float64
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (ImportError, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot load the model '{model}': {reason} Expected a folder or hub repository with a decoder-only "
            "language model (config.json, safetensors, tokenizer)."
        ) from error
    return FrozenLLM(loaded, tokenizer, model)
