"""A model's shell: its own forward pass, with the layers taken out.

Embedding, masks, positions, rotary tables, final norm and head differ between model families. Instead of copying any of
it, we let the model's own forward do it on a shallow copy of the model whose layers are stand-ins: one kind records
what each layer would have been given, the other hands back hidden states that were computed elsewhere. The weights are
shared, the model itself stays untouched, and no class is patched.

Axis letters: ``B`` rows, ``T`` tokens, ``H`` width, ``V`` vocabulary, ``N`` positions read out, ``D`` layers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from polar_env.errors import ModelError
from polar_env.llm.slots import PastLength

__all__ = ["LayerInputs", "Shell", "find_layers", "with_layers"]


@dataclass(frozen=True)
class LayerInputs:
    """What a model's forward hands to its layers.

    Attributes:
        hidden: embedded tokens, ``[B, T, H]``.
        kwargs: for each of the ``D`` layers, the keyword arguments of its call.
        cache: the cache object among those arguments, to be replaced by the slot of a step.
    """

    hidden: Tensor
    kwargs: tuple[dict[str, Any], ...]
    cache: PastLength


def find_layers(model: PreTrainedModel) -> tuple[nn.Module, str, nn.ModuleList]:
    """The decoder, the name of its list of layers, and the list.

    Raises:
        ModelError: if the model is no decoder with one list of layers.
    """
    decoder = model.get_decoder()
    if decoder is None or model.config.is_encoder_decoder:
        raise ModelError(f"{type(model).__name__} has no stand-alone decoder; give a decoder-only language model.")
    depth = model.config.get_text_config().num_hidden_layers
    for name, child in decoder.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == depth:
            return decoder, name, child
    raise ModelError(f"{type(decoder).__name__} has no list of {depth} layers that could be executed one by one.")


def with_layers(model: PreTrainedModel, layers: list[nn.Module]) -> PreTrainedModel:
    """A shallow copy of a model that shares all its weights but has other layers."""
    decoder, name, _ = find_layers(model)
    bare = _shallow(decoder)
    setattr(bare, name, nn.ModuleList(layers))
    if decoder is model:
        return bare  # type: ignore[return-value]
    shell = _shallow(model)
    holder = next(key for key, child in model.named_children() if child is decoder)
    setattr(shell, holder, bare)
    return shell  # type: ignore[return-value]


def _shallow(module: nn.Module) -> nn.Module:
    """A copy that shares parameters and submodules but can be given other submodules."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


class _StandIn(nn.Module):
    """Stands where a layer stood: looks like it, but computes nothing."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "layer", layer)  # not a submodule: the layer belongs to the model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["layer"], name)


class _Recorder(_StandIn):
    """Keeps what its layer would have been given."""

    hidden: Tensor
    kwargs: dict[str, Any]

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Record and pass on."""
        self.hidden, self.kwargs = hidden_states, kwargs
        return hidden_states


class _Replayer(_StandIn):
    """Gives out hidden states that were computed elsewhere."""

    hidden: Tensor | None = None

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """The hidden states that were put in."""
        return hidden_states if self.hidden is None else self.hidden


class Shell:
    """A model's own forward, split where its layers stood.

    Args:
        model: the frozen language model, in eval mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        _, _, layers = find_layers(model)
        self._recorders = [_Recorder(layer) for layer in layers]
        self._replayers = [_Replayer(layer) for layer in layers]
        self._before = find_layers(with_layers(model, list(self._recorders)))[0]
        self._after = with_layers(model, list(self._replayers))
        self.device = model.device

    def layer_inputs(
        self,
        ids: Tensor,
        past: int = 0,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> LayerInputs:
        """What the model's forward hands to each layer.

        Args:
            ids: token ids, ``long [B, T]``.
            past: how many tokens came before.
            attention_mask: ``[B, past + T]``, 1 = token, 0 = padding; None = no padding.
            position_ids: ``long [B, T]``; None counts from ``past``.
        """
        cache = PastLength(past, len(self._recorders))
        self._before(
            input_ids=ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return LayerInputs(self._recorders[0].hidden, tuple(recorder.kwargs for recorder in self._recorders), cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head for hidden states ``[N, H]`` of any positions; returns ``[N, V]``."""
        first = self._replayers[0]
        first.hidden = hidden.unsqueeze(1)  # [N, 1, H]
        try:
            ids = torch.zeros(hidden.shape[0], 1, dtype=torch.long, device=self.device)
            logits: Tensor = self._after(input_ids=ids, use_cache=False).logits
        finally:
            first.hidden = None
        return logits.squeeze(1)  # [N, V]
