"""PoLar's predictor (Li et al. 2026, arXiv 2606.06574), evaluated in numpy.

Each layer of the LLM has an embedding. These attend to what was read of the question, then to one another; one head
says where a segment begins, another one what is done with the segment that begins at a layer. The log-probability of a
whole program is a sum over layers. The paper searches all programs with a beam; of the recorded ones each gets its
score, as from a beam that is wide enough to hold them all.

Letters: ``N`` asks, ``O`` numbers of an observation, ``D`` the model's depth, ``W`` the predictor's width, ``M``
programs, ``T`` what attends, ``S`` what is attended to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from agents.card import AgentCard
from agents.menu import MenuAgent, load_menu
from agents.reading import Arrays
from polar_env.worlds import AskWorld

__all__ = ["KIND", "PolarScorer", "load_polar"]

KIND = "polar"
Array = NDArray[np.float32]
_AT_ONCE = 128
"""Asks whose layers are in memory together."""


@dataclass(frozen=True)
class PolarScorer:
    """The predictor.

    Attributes:
        weights: by the names of the network that was trained, `train.peers.polar.PolarNetwork`.
        matrix: what makes up each program, ``float32 [D - 1 + 3 D, M]``: where segments begin, the first layer left
            out, and what is done with them.
        heads: of each attention.
    """

    weights: Mapping[str, Array]
    matrix: Array
    heads: int

    @classmethod
    def of(cls, arrays: Arrays) -> PolarScorer:
        """From what `arrays` gave."""
        weights = {name: array for name, array in arrays.items() if name not in ("matrix", "heads")}
        return cls(weights, arrays["matrix"], int(arrays["heads"][0]))

    def arrays(self) -> Arrays:
        """See `agents.menu.Scorer`."""
        return {**self.weights, "matrix": self.matrix, "heads": np.array([self.heads])}

    @property
    def flops(self) -> float:
        """See `agents.menu.Scorer`; attention's products of layers with one another are left out, a few per cent."""
        each_layer = sum(w.size for name, w in self.weights.items() if w.ndim == 2 and name.startswith(_OF_LAYERS))
        return 2.0 * (len(self.weights["layers"]) * each_layer + self.matrix.size)

    def scores(self, observations: Array) -> Array:
        """See `agents.menu.Scorer`."""
        parts = [self._scores(observations[i : i + _AT_ONCE]) for i in range(0, len(observations), _AT_ONCE)]
        return np.concatenate(parts)

    def _scores(self, observations: Array) -> Array:
        w = self.weights
        read = (observations - w["centre"]) / w["scale"]
        halves = np.split(read, 2, axis=1)  # the last token's state, the question's mean
        tokens = np.stack([self._linear(f"read.{i}", half) for i, half in enumerate(halves)], axis=1)  # [N, 2, W]
        x = w["layers"] + self._attend("cross", np.broadcast_to(w["layers"], (len(read), *w["layers"].shape)), tokens)
        for block in range(sum(name.endswith("linear1.bias") for name in w)):
            at = f"encoder.layers.{block}"
            x = self._norm(f"{at}.norm1", x + self._attend(f"{at}.self_attn", x, x))
            x = self._norm(f"{at}.norm2", x + self._linear(f"{at}.linear2", self._linear(f"{at}.linear1", x).clip(0)))
        begins = self._linear("begins", x)[:, 1:, 0]  # [N, D - 1]; all programs share the rest of its log-probability
        operations = log_softmax(self._linear("operations", x), axis=2)  # [N, D, 3]
        scores: Array = np.hstack([begins, operations.reshape(len(x), -1)]) @ self.matrix
        return scores

    def _linear(self, name: str, x: Array) -> Array:
        y: Array = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return y

    def _attend(self, name: str, queries: Array, states: Array) -> Array:
        """Multi-head attention of queries ``[N, T, W]`` to states ``[N, S, W]``; torch keeps its three maps in one."""
        maps = np.split(self.weights[f"{name}.in_proj_weight"], 3), np.split(self.weights[f"{name}.in_proj_bias"], 3)
        q, k, v = (
            (x @ weight.T + bias).reshape(len(x), x.shape[1], self.heads, -1).swapaxes(1, 2)
            for x, weight, bias in zip((queries, states, states), *maps, strict=True)
        )  # [N, heads, T or S, W / heads]
        attention = softmax(q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1], dtype=np.float32), axis=3)
        return self._linear(f"{name}.out_proj", (attention @ v).swapaxes(1, 2).reshape(queries.shape))

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-5))
        y: Array = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return y


_OF_LAYERS = ("cross", "encoder", "begins", "operations")


def load_polar(folder: Path, card: AgentCard, world: AskWorld) -> MenuAgent:
    """A saved PoLar agent; see `agents.menu.load_menu`."""
    return load_menu(folder, card, world, PolarScorer.of)
