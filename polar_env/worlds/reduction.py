"""Hidden states in few numbers: a principal component analysis that is stored and can be applied live.

What is kept of a state is its position along the directions in which the states of train asks differ most. So a
recorded world shows the same numbers as the LLM that runs, up to the rounding of what was stored.

Letters: ``S`` depths at which states are kept, ``K`` components, ``H`` the LLM's width, ``N`` pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program, departure
from polar_env.questions import Ask
from polar_env.worlds.world import AskWorld, ObservedStates

if TYPE_CHECKING:
    from polar_env.runner.answers import Answer

__all__ = ["ReducedAsks", "Reduction", "kept_depth"]


def kept_depth(depths: Sequence[int], layers: Sequence[int]) -> int:
    """Which of some depths is observed after the layers executed so far: the index of the last one that the program
    reached before it departed from the identity.

    Args:
        depths: depths at which states are kept, ascending, the first one 0.
        layers: the layers executed so far.
    """
    return int(np.searchsorted(depths, departure(layers), side="right")) - 1


@dataclass(frozen=True)
class Reduction:
    """A principal component analysis of states at each of some depths, of the last token and of the mean apart.

    Attributes:
        depths: layers of the identity after which states are kept, ascending, the first one 0.
        means: mean state, ``float32 [S, 2, H]``.
        bases: directions, orthonormal, ``float16 [S, 2, H, K]``.
    """

    depths: tuple[int, ...]
    means: NDArray[np.float32]
    bases: NDArray[np.float16]

    @property
    def observed(self) -> ObservedStates:
        """The components of two states: none is longer than a state and a mean together."""
        width, components = self.bases.shape[2:]
        return ObservedStates(2 * components, 2.0 * float(np.sqrt(width)) + 1.0)

    @classmethod
    def fit(cls, states: NDArray[np.float32], depths: Sequence[int], components: int) -> Reduction:
        """The analysis of some asks' states.

        Args:
            states: ``[N, S, 2, H]``; more asks than components.
            depths: see `Reduction`.
            components: how many numbers ``K`` are kept of a state.
        """
        means = states.mean(0, dtype=np.float64).astype(np.float32)  # [S, 2, H]
        centred = np.moveaxis(states - means, 0, 2)  # [S, 2, N, H]
        directions = np.linalg.svd(centred, full_matrices=False)[2][..., :components, :]  # [S, 2, K, H]
        bases = np.ascontiguousarray(
            np.swapaxes(directions, -1, -2), np.float16
        )  # safetensors writes memory as it lies
        return cls(tuple(depths), means, bases)

    def apply(self, states: NDArray[np.float32], at: NDArray[np.intp]) -> NDArray[np.float32]:
        """States as components.

        Args:
            states: what a live world shows, ``[N, 2 H]``.
            at: which of the depths each was seen at, ``[N]``.

        Returns:
            ``[N, 2 K]``
        """
        reduced = np.empty((len(states), self.observed.size), np.float32)
        for each in np.unique(at):
            rows = at == each
            centred = states[rows].reshape(rows.sum(), 2, -1) - self.means[each]  # [N', 2, H]
            reduced[rows] = np.einsum("nch,chk->nck", centred, self.bases[each].astype(np.float32)).reshape(
                rows.sum(), -1
            )
        return reduced

    def at(self, depth: int) -> Reduction:
        """The analysis at one of the depths alone."""
        at = self.depths.index(depth)
        return Reduction((depth,), self.means[[at]], self.bases[[at]])

    def equals(self, other: Reduction) -> bool:
        """Whether another one makes the same components of the same states."""
        same = np.array_equal(self.means, other.means) and np.array_equal(self.bases, other.bases)
        return self.depths == other.depths and same

    def arrays(self) -> dict[str, NDArray[np.float32 | np.float16]]:
        """What `of` makes a reduction from, with the depths."""
        return {"means": self.means, "bases": self.bases}

    @classmethod
    def of(cls, depths: Sequence[int], arrays: Mapping[str, NDArray[np.float32 | np.float16]]) -> Reduction:
        """From stored arrays."""
        return cls(tuple(depths), arrays["means"].astype(np.float32), arrays["bases"].astype(np.float16))


class ReducedAsks:
    """A world of asks whose observations are reduced, and are those of the identity's prefixes; all else is as it was.

    Args:
        asks: executes.
        reduction: what is kept of its states.
    """

    def __init__(self, asks: AskWorld, reduction: Reduction) -> None:
        self.unreduced, self.reduction = asks, reduction

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""
        return self.unreduced.depth

    @property
    def identity(self) -> Program:
        """The program of the normal pass."""
        return self.unreduced.identity

    @property
    def programs(self) -> Sequence[Program] | None:
        """The programs that can be executed, None for any."""
        return self.unreduced.programs

    @property
    def observed(self) -> ObservedStates:
        """What `observations` consist of."""
        return self.reduction.observed

    @property
    def read_out_flops(self) -> float:
        """Floating-point operations of reading out one token."""
        return self.unreduced.read_out_flops

    def observations(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """The components of the last state that is kept before the layers depart from the identity, ``[N, 2 K]``."""
        depths = self.reduction.depths
        at = np.array([kept_depth(depths, layers) for _, layers in pairs], np.intp)
        identity = self.identity.layers
        kept = [(ask, identity[: depths[each]]) for (ask, _), each in zip(pairs, at, strict=True)]
        return self.reduction.apply(self.unreduced.observations(kept), at)

    def answers(
        self,
        asks: Sequence[Ask],
        programs: Program | Sequence[Program],
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Answer]:
        """See `AskWorld`."""
        return self.unreduced.answers(asks, programs, temperature, seeds)

    def confidences(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """See `AskWorld`."""
        return self.unreduced.confidences(pairs)
