"""Does the runner run exactly the program? The oracle, on any model: the re-stacked layers, run by transformers.

Whatever transformers computes for a model whose layers are the program's, with its own masks and its own cache, is the
truth; see `polar_env.llm.as_model`.

Axis letters: ``B`` rows, ``T`` tokens, ``V`` vocabulary, ``D`` layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from polar_env.errors import NonFiniteError
from polar_env.llm.export import as_model, tolerance_of
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.runner.generation import generate

__all__ = ["CHECKS", "GREEDY", "MIXED", "Check", "Finding", "cases", "comparisons", "verify"]

_LENGTH, _PADDING, _NEW_TOKENS = 9, 3, 8
_ROUNDING_MARGIN = 4
MIXED, GREEDY = "all in one batch", "greedy tokens"
_MIXED_BATCHES = ("left pad", "right pad")
_PIECES = [(0, 5), (5, 6), (6, 8), (8, 9)]
"""Columns that are run one after the other when a cache is used."""


@dataclass(frozen=True)
class Finding:
    """One comparison of the runner with the re-stacked model.

    Attributes:
        case: name of the program's kind.
        check: name of the batch and the way it was run.
        difference: largest absolute difference of logits at any real token; for greedy tokens the number of rows whose
            tokens differ.
        bound: the largest difference that rounding explains.
    """

    case: str
    check: str
    difference: float
    bound: float

    @property
    def ok(self) -> bool:
        """Whether they agree."""
        return self.difference <= self.bound


T = TypeVar("T")
Check = Callable[[FrozenLLM, Program], float]


def cases(depth: int) -> dict[str, Program]:
    """Programs that a wrong runner gets wrong, for a model of ``depth`` layers."""
    identity = Program.identity(depth)
    middle, block = depth // 2, min(3, depth)
    swapped = list(identity.layers)
    swapped[-2:] = reversed(swapped[-2:])
    swapped[:2] = reversed(swapped[:2])
    return {
        "identity": identity,
        "skip": Program(identity.layers[:middle] + identity.layers[middle + 1 :] or identity.layers),
        "skip layer 0": Program(identity.layers[1:] or identity.layers),
        "repeat a layer": identity.repeat(middle, 1),
        "repeat a module": identity.repeat((depth - block) // 2, block),
        "repeat the first": identity.repeat(0, 1),
        "repeat the last": identity.repeat(depth - 1, 1, times=3),
        "any order": Program(tuple(swapped)),
        "one layer": Program((middle,)),
    }


def comparisons(depth: int) -> int:
    """How many findings `verify` makes for a model of ``depth`` layers."""
    return len(cases(depth)) * len(CHECKS) + len(_MIXED_BATCHES)


def verify(llm: FrozenLLM, on_finding: Callable[[Finding], None] | None = None) -> list[Finding]:
    """Compare the runner with the oracle: every case, alone and padded, with cache and without, and mixed batches.

    Args:
        llm: the model.
        on_finding: called with each finding as it is made.
    """
    findings: list[Finding] = []

    def note(case: str, check: str, difference: float, bound: float) -> None:
        findings.append(Finding(case, check, difference, bound))
        if on_finding is not None:
            on_finding(findings[-1])

    programs = cases(llm.depth)
    ids, _ = _batch(llm, "one row")
    bound = tolerance_of(llm.dtype, float(_theirs(llm.model, ids, None, [(0, _LENGTH)]).abs().max()))
    for case, program in programs.items():
        for check, compare in CHECKS.items():
            difference = _careful(partial(compare, llm, program), math.inf)
            note(case, check, difference, 0 if check == GREEDY else bound)
    for check in _MIXED_BATCHES:
        difference, rounding = _careful(partial(_mixed, llm, list(programs.values()), check), (math.inf, 0.0))
        note(MIXED, f"{check}, cache", difference, max(bound, _ROUNDING_MARGIN * rounding))
    return findings


def _careful(compare: Callable[[], T], otherwise: T) -> T:
    """What a comparison says, or ``otherwise`` where hidden states are not finite."""
    try:
        return compare()
    except NonFiniteError:
        return otherwise


def _batch(llm: FrozenLLM, kind: str) -> tuple[Tensor, Tensor | None]:
    """Random tokens ``[B, T]`` and their mask, the same ones every time."""
    rows = 1 if kind == "one row" else 3
    stream = torch.Generator().manual_seed(0)
    ids = torch.randint(0, llm.vocabulary_size, (rows, _LENGTH), generator=stream).to(llm.device)
    if rows == 1:
        return ids, None
    mask = torch.ones_like(ids)
    mask[1, slice(None, _PADDING) if kind == "left pad" else slice(-_PADDING, None)] = 0
    return ids, mask


def _ours(
    llm: FrozenLLM, programs: Sequence[Program], ids: Tensor, mask: Tensor | None, pieces: Sequence[tuple[int, int]]
) -> Tensor:
    cache = llm.new_cache(programs)
    made = [llm.logits(ids[:, a:b], programs, None if mask is None else mask[:, :b], cache) for a, b in pieces]
    return torch.cat(made, dim=1)


@torch.inference_mode()
def _theirs(model: PreTrainedModel, ids: Tensor, mask: Tensor | None, pieces: Sequence[tuple[int, int]]) -> Tensor:
    cache = DynamicCache(config=model.config)
    whole = torch.ones_like(ids) if mask is None else mask
    made = []
    for start, end in pieces:
        output = model(
            input_ids=ids[:, start:end],
            attention_mask=None if mask is None else mask[:, :end],
            position_ids=(whole[:, :end].cumsum(-1) - 1).clamp(min=0)[:, start:],
            past_key_values=cache,
            use_cache=True,
        )
        made.append(output.logits)
    return torch.cat(made, dim=1)


def _logits(kind: str, pieces: Sequence[tuple[int, int]]) -> Check:
    """A check that compares logits at all real tokens of one kind of batch."""

    def compare(llm: FrozenLLM, program: Program) -> float:
        ids, mask = _batch(llm, kind)
        twin = llm.model if program == llm.identity else as_model(llm, program)
        difference = _ours(llm, [program] * len(ids), ids, mask, pieces) - _theirs(twin, ids, mask, pieces)
        return _largest(difference if mask is None else difference[mask.bool()])

    return compare


def _largest(difference: Tensor) -> float:
    """Largest absolute difference; infinite where anything is NaN."""
    return float(difference.abs().nan_to_num(math.inf).max())


def _greedy(llm: FrozenLLM, program: Program) -> float:
    """Rows whose tokens are not those of transformers' ``generate``; prompts of different length that begin alike."""
    ids = _batch(llm, "one row")[0][0].tolist()
    prompts = [ids, ids[:5], ids[:3] + ids[5:]]
    if llm.dtype in (torch.float32, torch.float64):
        written = generate(llm, prompts, program, max_new_tokens=_NEW_TOKENS)
    else:  # in 16 bits the likeliest token depends on the batch's shape, in transformers as here
        written = [generate(llm, [prompt], program, max_new_tokens=_NEW_TOKENS)[0] for prompt in prompts]
    # The model's own settings may ask for penalties, which are no part of a program.
    plain = as_model(llm, program)
    plain.generation_config = GenerationConfig(
        max_new_tokens=_NEW_TOKENS, do_sample=False, pad_token_id=0, eos_token_id=sorted(llm.end_tokens) or None
    )
    differ, theirs = 0, cast("Callable[..., Tensor]", plain.generate)
    for prompt, one in zip(prompts, written, strict=True):
        mask = torch.ones(1, len(prompt), device=llm.device)
        made = theirs(torch.tensor([prompt], device=llm.device), attention_mask=mask)
        differ += made[0, len(prompt) :].tolist() != list(one.tokens)
    return differ


def _mixed(llm: FrozenLLM, programs: Sequence[Program], kind: str) -> tuple[float, float]:
    """All programs as rows of one batch, with a cache, against each of them alone in transformers.

    Products of other shapes round otherwise, so beside the difference stands how far transformers' own logits move
    when a row is put into a batch of that size.
    """
    some_ids, some_mask = _batch(llm, kind)
    assert some_mask is not None
    picks = [row % len(some_ids) for row in range(len(programs))]
    ids, mask = some_ids[picks], some_mask[picks]
    ours = _ours(llm, programs, ids, mask, _PIECES)
    worst = rounding = 0.0
    for row, program in enumerate(programs):
        twin, real = as_model(llm, program), mask[row].bool()
        alone = _theirs(twin, ids[row : row + 1], mask[row : row + 1], _PIECES)[0]
        among = _theirs(twin, ids[[row] * len(ids)], mask[[row] * len(ids)], _PIECES)[0]
        worst = max(worst, _largest((ours[row] - alone)[real]))
        rounding = max(rounding, _largest((among - alone)[real]))
    return worst, rounding


CHECKS: dict[str, Check] = {
    "one row": _logits("one row", [(0, _LENGTH)]),
    "left pad": _logits("left pad", [(0, _LENGTH)]),
    "right pad": _logits("right pad", [(0, _LENGTH)]),
    "one row, cache": _logits("one row", _PIECES),
    "left pad, cache": _logits("left pad", _PIECES),
    "right pad, cache": _logits("right pad", _PIECES),
    GREEDY: _greedy,
}
"""What every case is put to."""
