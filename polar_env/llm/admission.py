"""What a model must do before it is executed layer by layer: five short runs when it is loaded.

The configuration says what a model calls itself; these runs see what it does. A state that layers share behind the
back of the hidden states, a cache of another kind, or layers that look at later tokens all make other logits.

Axis letters: ``B`` rows, ``T`` tokens, ``V`` vocabulary, ``D`` layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from polar_env.errors import ModelError, NonFiniteError, PolarError
from polar_env.llm.slots import PastLength
from polar_env.llm.structure import restacked
from polar_env.program import Program

if TYPE_CHECKING:
    from polar_env.llm.frozen import FrozenLLM

__all__ = ["admit"]

_LENGTH, _CUT = 6, 4
_SAME_SHAPES = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Share of the largest logit that two runs of the same shapes may differ by; 0.02 in 16 bits."""
_OTHER_SHAPES = {torch.float32: 1e-2, torch.float64: 1e-6}
"""The same for runs of other shapes; 0.3 in 16 bits, where another expert may be chosen."""


@torch.inference_mode()
def admit(llm: FrozenLLM) -> None:
    """Refuse a model of which a program of layers would mean something else than its layers one after the other.

    Raises:
        ModelError: says which of the model's habits is in the way.
    """
    name = type(llm.model).__name__
    ids = (torch.arange(_LENGTH, device=llm.device)[None] + 3) % llm.vocabulary_size
    own = llm.model(input_ids=ids, use_cache=False).logits
    if own.shape[:2] != ids.shape:
        raise ModelError(
            f"{name} gives logits of shape {tuple(own.shape)} for {_LENGTH} tokens, so it does not predict the next "
            "token at each position."
        )
    if llm.embed(ids).shape[:2] != ids.shape:
        raise ModelError(f"{name} puts tokens of its own before the text's, so positions are not those of the text.")
    _check_identity(llm, ids, own)
    _check_later_tokens(llm, ids, own)
    _check_pieces(llm, ids, own)
    _check_positions(llm, ids, own)
    _check_restacked(llm, ids)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def _differ(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether logits differ by more than a share of the largest, or are NaN on one side alone."""
    return not torch.allclose(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()), equal_nan=True)


def _check_identity(llm: FrozenLLM, ids: Tensor, own: Tensor) -> None:
    ours = llm.logits(ids, llm.identity)
    if _differ(ours, own, _SAME_SHAPES.get(llm.dtype, 0.02)):
        raise ModelError(
            f"{type(llm.model).__name__} is not just its layers one after the other: the identity program gives logits "
            f"that differ by {float((ours - own).abs().max()):.3g} from its own forward's. Programs of its layers "
            "would mean something else."
        )


def _check_later_tokens(llm: FrozenLLM, ids: Tensor, own: Tensor) -> None:
    other = torch.cat([ids[:, :_CUT], (ids[:, _CUT:] + 11) % llm.vocabulary_size], dim=1)
    changed = llm.model(input_ids=other, use_cache=False).logits
    if _differ(changed[:, :_CUT], own[:, :_CUT], _OTHER_SHAPES.get(llm.dtype, 0.3)):
        raise ModelError(
            f"the layers of {type(llm.model).__name__} look at later tokens, so it cannot continue a text token by "
            "token."
        )


def _check_pieces(llm: FrozenLLM, ids: Tensor, own: Tensor) -> None:
    cache = llm.new_cache([llm.identity])
    pieces = [llm.logits(ids[:, a:b], llm.identity, cache=cache) for a, b in ((0, _CUT), (_CUT, _LENGTH))]
    if _differ(torch.cat(pieces, dim=1), own, _OTHER_SHAPES.get(llm.dtype, 0.3)):
        raise ModelError(
            f"{type(llm.model).__name__} needs more of earlier tokens than the keys and values of each layer: with a "
            "cache it gives other logits than without."
        )


def _check_positions(llm: FrozenLLM, ids: Tensor, own: Tensor) -> None:
    """Padding on the left must not move positions: neither those of the embedded tokens, nor those in the layers."""
    padded = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)  # [1, T], the first column is padding
    mask = torch.ones_like(ids)
    mask[:, 0] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    past = PastLength(0, [None] * llm.depth)
    moved = llm.shell.layer_inputs(padded, past, mask, positions).hidden[:, 1:]
    same = not _differ(moved, llm.embed(ids)[:, :-1], _SAME_SHAPES.get(llm.dtype, 0.02))
    cache = llm.new_cache([llm.identity])
    try:
        pieces = [llm.logits(padded[:, a:b], llm.identity, mask[:, :b], cache) for a, b in ((0, _CUT), (_CUT, _LENGTH))]
    except NonFiniteError:  # some masks of transformers make NaN of padding; whoever pads is told then
        pieces = []
    if pieces:
        same &= not _differ(torch.cat(pieces, dim=1)[:, 1:], own[:, :-1], _OTHER_SHAPES.get(llm.dtype, 0.3))
    if not same:
        raise ModelError(
            f"{type(llm.model).__name__} counts positions in a way of its own, so a prompt beside a longer one, padded "
            "on the left, would mean something else than alone."
        )


def _check_restacked(llm: FrozenLLM, ids: Tensor) -> None:
    """The last layer, the first one twice and the middle one must be what transformers makes of them."""
    name, program = type(llm.model).__name__, Program((llm.depth - 1, 0, 0, llm.depth // 2))
    try:
        twin = restacked(llm.model, program)
        cache, ours_cache = DynamicCache(config=twin.config), llm.new_cache([program])
        ours, theirs = [], []
        for a, b in ((0, _CUT), (_CUT, _LENGTH)):
            ours.append(llm.logits(ids[:, a:b], program, cache=ours_cache))
            theirs.append(twin(input_ids=ids[:, a:b], past_key_values=cache, use_cache=True).logits)
    except NonFiniteError:
        return  # this program leaves the floating-point type's range; whoever asks for it is told then
    except PolarError:
        raise
    except Exception as error:
        raise ModelError(
            f"the layers of {name} cannot be put into another order: transformers refuses a model of them "
            f"({type(error).__name__}: {_first_line(error)})."
        ) from error
    if _differ(torch.cat(ours, dim=1), torch.cat(theirs, dim=1), _SAME_SHAPES.get(llm.dtype, 0.02)):
        raise ModelError(
            f"a layer of {name} computes something else at another place of the model, so programs of its layers have "
            "no clear meaning."
        )
