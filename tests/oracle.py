"""The ground truth: the program's layers re-stacked as a model that transformers itself runs."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from polar_env.program import Program


def restack(model: PreTrainedModel, program: Program) -> PreTrainedModel:
    """A model of the same class whose layers are the program's: weights equal, each step's ``layer_idx`` its own."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(program)
    layers = nn.ModuleList([copy.deepcopy(model.model.layers[layer]) for layer in program.layers])
    for step, layer in enumerate(layers):
        layer.self_attn.layer_idx = step
    if getattr(config, "layer_types", None):
        config.layer_types = [model.config.layer_types[layer] for layer in program.layers]
    twin = type(model)(config).to(model.dtype)
    state = {name: value for name, value in model.state_dict().items() if ".layers." not in name}
    twin.load_state_dict(state, strict=False)
    twin.model.layers = layers
    return twin.eval().requires_grad_(False)


def logits_of(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Transformers' own forward, with positions counted from the first token that is no padding."""
    positions = None if mask is None else (mask.long().cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
