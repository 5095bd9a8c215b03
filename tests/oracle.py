"""The ground truth: the program's layers re-stacked as a model that transformers itself builds and runs.

It shares no code with the package: the configuration of the new stack is written out here, transformers builds the
model from it, and every step gets a copy of its layer's weights.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from polar_env.program import Program


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    decoder = model.get_decoder()
    return decoder.layers


def restack(model: PreTrainedModel, program: Program) -> PreTrainedModel:
    """A model of the same class whose layers are copies of the program's."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(program)
    if getattr(config, "layer_types", None):
        config.layer_types = [model.config.layer_types[layer] for layer in program.layers]
    if getattr(config, "mlp_only_layers", None):
        config.mlp_only_layers = [s for s, layer in enumerate(program.layers) if layer in config.mlp_only_layers]
    twin = type(model)(config).to(model.dtype)
    twin.set_attn_implementation(model.config._attn_implementation)
    if model.dtype is torch.float64:
        twin.set_experts_implementation("eager")
    of_layers = {id(p) for p in layers_of(model).parameters()}
    others = {name: p for name, p in model.named_parameters() if id(p) not in of_layers}
    missing = twin.load_state_dict(others, strict=False)
    assert not missing.unexpected_keys
    for step, layer in enumerate(program.layers):
        layers_of(twin)[step].load_state_dict(layers_of(model)[layer].state_dict())
    return twin.eval().requires_grad_(False)


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Positions counted from the first token that is no padding, as transformers' ``generate`` counts them."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def logits_of(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Transformers' own forward."""
    positions = None if mask is None else positions_of(mask)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits


def cached_logits_of(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None, pieces: list[tuple[int, int]]
) -> torch.Tensor:
    """Transformers' own forward with its own cache, some columns at a time."""
    cache = DynamicCache(config=model.config)
    whole = torch.ones_like(ids) if mask is None else mask
    made = []
    for start, end in pieces:
        with torch.no_grad():
            output = model(
                input_ids=ids[:, start:end],
                attention_mask=None if mask is None else mask[:, :end],
                position_ids=positions_of(whole[:, :end])[:, start:],
                past_key_values=cache,
                use_cache=True,
            )
        made.append(output.logits)
    return torch.cat(made, dim=1)


def greedy_tokens(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """Transformers' own ``generate`` with its own cache, up to an end-of-text token."""
    made = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=count, do_sample=False
    )
    return made[0, len(prompt) :].tolist()
