"""Tiny random models of every family that is promised to work, built from their configurations without a download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,  # large, so that every program gives other answers
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
WINDOW = 5
"""Shorter than the tests' sequences."""
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}


def _build(name: str, **options: Any) -> Callable[[], PreTrainedModel]:
    def build() -> PreTrainedModel:
        torch.manual_seed(1)
        config = getattr(transformers, f"{name}Config" if name != "Gemma3" else "Gemma3TextConfig")(**SIZES | options)
        model: PreTrainedModel = getattr(transformers, f"{name}ForCausalLM")(config)
        return model.eval()

    return build


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": _build("Llama"),
    "qwen2": _build("Qwen2", use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2),
    "qwen3": _build("Qwen3", head_dim=8),
    "qwen2_moe": _build(
        "Qwen2Moe", **EXPERTS, moe_intermediate_size=32, shared_expert_intermediate_size=32, mlp_only_layers=[1]
    ),
    "mistral": _build("Mistral", sliding_window=WINDOW),
    # Gemma-3 has two rotary bases, one for each kind of layer.
    "gemma3": _build("Gemma3", head_dim=8, sliding_window=WINDOW, layer_types=MIXED, initializer_range=0.3),
    "olmoe": _build("Olmoe", **EXPERTS),
    "gpt_neox": _build("GPTNeoX"),
    "phi3": _build("Phi3", sliding_window=WINDOW),
}


def build(family: str, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> PreTrainedModel:
    """A tiny random model of a family; the same one for the same arguments."""
    model = FAMILIES[family]().to(dtype)
    model.set_attn_implementation(attention)
    if dtype is torch.float64:
        model.set_experts_implementation("eager")  # torch's grouped products have no float64
    return model


_OTHER_SIZES = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_positions": 256}),
    "opt": ("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 256}),
    "bloom": ("Bloom", {}),
    "gpt_neo": (
        "GPTNeo",
        {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW, "max_position_embeddings": 256},
    ),
    "falcon": ("Falcon", {"alibi": True, "new_decoder_architecture": False}),
}
"""Families that the package knows nothing of."""


def build_other(name: str, **more: Any) -> PreTrainedModel:
    """A tiny random model of one of the `OTHERS`."""
    torch.manual_seed(0)
    prefix, options = OTHERS[name]
    config = getattr(transformers, f"{prefix}Config")(
        **_OTHER_SIZES, bos_token_id=0, eos_token_id=1, pad_token_id=1, **options, **more
    )
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model
