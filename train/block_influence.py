"""ShortGPT (Men et al. 2024): layers that change the hidden states least are left out, for every question.

Letters: ``D`` the model's depth, ``T`` tokens, ``H`` width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.runner.prefixes import prefix_of
from polar_env.worlds import LiveWorld

__all__ = ["block_influence", "without_weakest"]


@torch.inference_mode()
def block_influence(world: LiveWorld, asks: Sequence[Ask]) -> NDArray[np.float64]:
    """One minus the cosine between the hidden states before and after each layer, mean over the asks' tokens, ``[D]``.

    Args:
        world: executes the identity.
        asks: train questions as they are asked.
    """
    depth = world.depth
    total, tokens = np.zeros(depth), 0
    prefixes = [prefix_of(tuple(range(length))) for length in range(depth + 1)]
    for ask in asks:
        text = world.runner.encode_ask(ask, world.prompts[ask.task]).text
        execution = world.runner.asks.execute([(text, prefix) for prefix in prefixes])
        states = torch.stack([execution.hidden[text.id, prefix][0] for prefix in prefixes]).double()  # [D + 1, T, H]
        total += (1 - torch.cosine_similarity(states[:-1], states[1:], dim=-1)).sum(-1).cpu().numpy()
        tokens += text.length
    return total / tokens


def without_weakest(influence: NDArray[np.float64], count: int) -> Program:
    """The identity without the ``count`` layers of least influence."""
    return Program(tuple(sorted(np.argsort(influence, kind="stable")[count:].tolist())))
