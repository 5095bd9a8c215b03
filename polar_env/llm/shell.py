"""A model's shell: its own forward pass, with the layers taken out.

Embedding, masks, positions, rotary tables, final norm and head differ between model families. Instead of copying any of
it, we let the model's own forward do it on a shallow copy of the model whose layers are stand-ins: one kind records
what each layer would have been given, the other hands back hidden states that were computed elsewhere. The weights are
shared, the model itself stays untouched, and no class is patched.

Axis letters: ``B`` rows, ``T`` tokens, ``H`` width, ``V`` vocabulary, ``N`` positions read out, ``D`` layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from polar_env.errors import ModelError
from polar_env.llm.slots import PastLength
from polar_env.llm.structure import find_decoder, find_layers, with_layers

__all__ = ["LayerInputs", "Shell"]

Arguments = dict[int | str, Any]
"""Arguments of one call, positional ones by their number, without the hidden states."""
Path = tuple[int | str, ...]


@dataclass(frozen=True)
class LayerInputs:
    """What a model's forward hands to its layers.

    Attributes:
        hidden: embedded tokens, ``[B, T, H]``.
        arguments: for each of the ``D`` layers, the arguments of its call.
        past: the cache object among those arguments, to be replaced by the slot of a position.
        row_paths: where among the arguments stand tensors that have a part for each row.
    """

    hidden: Tensor
    arguments: tuple[Arguments, ...]
    past: PastLength
    row_paths: frozenset[Path]

    def call(self, layer: int, slot: Any, rows: Tensor | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for one layer.

        Args:
            layer: which layer.
            slot: stands where the model's forward put its cache.
            rows: the rows that run the layer, ``long [B]``; None for all.
        """
        made = {
            key: _mapped(value, (key,), lambda leaf, path: self._for_call(leaf, path, slot, rows))
            for key, value in self.arguments[layer].items()
        }
        positional = [made.pop(key) for key in sorted(key for key in made if isinstance(key, int))]
        return positional, {str(key): value for key, value in made.items()}

    def _for_call(self, leaf: Any, path: Path, slot: Any, rows: Tensor | None) -> Any:
        if leaf is self.past:
            return slot
        if rows is None or path not in self.row_paths or not isinstance(leaf, Tensor):
            return leaf
        if len(leaf) == 1:  # alike for all rows; some families want to see a part for each
            return leaf.expand(len(rows), *leaf.shape[1:])
        by_row = leaf.unflatten(0, (len(self.hidden), -1))  # some families put [B * heads] into one axis
        return by_row[rows].flatten(0, 1)


def _mapped(value: Any, path: Path, change: Callable[[Any, Path], Any]) -> Any:
    """The same nest of tuples, lists and dicts with its leaves changed."""
    if isinstance(value, tuple | list):
        return type(value)(_mapped(item, (*path, i), change) for i, item in enumerate(value))
    if isinstance(value, dict):
        return {key: _mapped(item, (*path, key), change) for key, item in value.items()}
    return change(value, path)


def _tensors(value: Any, path: Path) -> Iterator[tuple[Path, Tensor]]:
    """All tensors of a nest, and where they stand."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _tensors(item, (*path, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, (*path, key))


class _StandIn(nn.Module):
    """Stands where a layer stood: looks like it, but computes nothing.

    Args:
        layer: the layer.
        outputs: length of the tuple that it gives out, hidden states first; 0 where it gives out those alone.
    """

    def __init__(self, layer: nn.Module, outputs: int) -> None:
        super().__init__()
        object.__setattr__(self, "layer", layer)  # not a submodule: the layer belongs to the model
        self.outputs = outputs

    def _as_output(self, hidden: Tensor) -> Any:
        return (hidden, *[None] * (self.outputs - 1)) if self.outputs else hidden

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["layer"], name)


class _Recorder(_StandIn):
    """Keeps what its layer would have been given."""

    hidden: Tensor
    arguments: Arguments

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Record and pass on."""
        self.hidden, self.arguments = hidden_states, {**dict(enumerate(args)), **kwargs}  # type: ignore[dict-item]
        return self._as_output(hidden_states)


class _Replayer(_StandIn):
    """Gives out hidden states that were computed elsewhere."""

    hidden: Tensor | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The hidden states that were put in."""
        return self._as_output(hidden_states if self.hidden is None else self.hidden)


class Shell:
    """A model's own forward, split where its layers stood.

    Args:
        model: the frozen language model, in eval mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        layers = find_layers(model)
        outputs = _outputs_of(layers[0], model)
        self._recorders = [_Recorder(layer, outputs) for layer in layers]
        self._replayers = [_Replayer(layer, outputs) for layer in layers]
        self._before = find_decoder(with_layers(model, list(self._recorders)))
        self._after = with_layers(model, list(self._replayers))
        self.device = model.device
        self._row_paths: frozenset[Path] = frozenset()
        self._row_paths = self._find_row_paths()

    def layer_inputs(
        self,
        ids: Tensor,
        past: PastLength,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> LayerInputs:
        """What the model's forward hands to each layer.

        Args:
            ids: token ids, ``long [B, T]``.
            past: how many tokens came before, and how many of them each layer keeps.
            attention_mask: ``[B, past + T]``, 1 = token, 0 = padding; None = no padding.
            position_ids: ``long [B, T]``; None counts from ``past``.
        """
        self._before(
            input_ids=ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past,
            use_cache=True,
        )
        arguments = tuple(recorder.arguments for recorder in self._recorders)
        return LayerInputs(self._recorders[0].hidden, arguments, past, self._row_paths)

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

    @torch.inference_mode()
    def _find_row_paths(self) -> frozenset[Path]:
        """Which tensors among the layers' arguments have a part for each row: those that grow when rows are added."""
        sizes: list[dict[Path, int]] = []
        for rows in (2, 3):
            mask = torch.ones(rows, 5, dtype=torch.long, device=self.device)
            mask[0, 0] = 0  # without padding a mask may be left out
            ids = torch.zeros_like(mask)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            inputs = self.layer_inputs(ids, PastLength(0, [None] * len(self._recorders)), mask, positions)
            sizes.append({p: len(t) for layer in inputs.arguments for p, t in _tensors(layer, ()) if t.ndim})
        return frozenset(path for path, size in sizes[0].items() if sizes[1][path] > size)


@torch.inference_mode()
def _outputs_of(layer: nn.Module, model: PreTrainedModel) -> int:
    """Length of the tuple or list that a layer gives out when its model runs, 0 for a tensor.

    Raises:
        ModelError: if the model does not run on token ids alone, or runs without calling the layer once.
    """
    seen: list[Any] = []
    name = type(model).__name__
    watch = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        model(input_ids=torch.zeros(1, 4, dtype=torch.long, device=model.device), use_cache=False)
    except Exception as error:  # whatever a forward may raise that was written by others
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelError(f"{name} does not run on token ids alone ({type(error).__name__}: {reason}).") from error
    finally:
        watch.remove()
    if len(seen) != 1:
        raise ModelError(
            f"{name} is not just its layers one after the other: its forward calls the first one {len(seen)} times."
        )
    return len(seen[0]) if isinstance(seen[0], tuple | list) else 0
