"""Attention on a CPU that reads grouped KV heads as they are.

Transformers' sdpa attention copies keys and values for each query head wherever there is a mask, since CUDA would fall
back to a slow kernel. A CPU's kernel does not, and behind worked examples there always is a mask.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from polar_env.llm.structure import renumbered

__all__ = ["layers_for_device"]

_NAME = "polar_grouped_sdpa"
_PLAIN = {"cache", "position_bias", "softcap"}
"""Arguments that only transformers' own function understands."""


def _grouped_sdpa(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Transformers' function of the same arguments, without its copy of keys and values ``[B, G, T, E]``."""
    grouped = query.shape[1] > key.shape[1] and attention_mask is not None
    if not grouped or options.get("dropout") or any(options.get(name) is not None for name in _PLAIN):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=options.get("scaling"), enable_gqa=True
    )  # [B, heads, T, E]
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _grouped_sdpa)


def layers_for_device(model: PreTrainedModel, layers: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers as they run fastest on the model's device; they share all weights with the model's own."""
    config = model.config.get_text_config()
    modules = {type(part).__module__ for layer in layers for part in layer.modules()}
    asks_by_name = any(hasattr(sys.modules[name], "ALL_ATTENTION_FUNCTIONS") for name in modules)
    if model.device.type != "cpu" or config._attn_implementation != "sdpa" or not asks_by_name:
        return list(layers)  # older families have attention of their own beside transformers' functions
    grouped = copy.copy(config)
    grouped._attn_implementation = _NAME
    return [renumbered(layer, index, grouped) for index, layer in enumerate(layers)]
