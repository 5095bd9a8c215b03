"""What answering costs behind worked examples, and what a policy's choosing adds to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.policy.agent import PolicyAgent
from agents.policy.network import new_policy
from eval.benchmarks.timing import time_ratio
from polar_env.envs import EnvConfig, Observer
from polar_env.envs.observer import Observation
from polar_env.questions import Ask
from polar_env.runner import Decoding, generate
from polar_env.worlds import LiveWorld

__all__ = ["FEW_SHOT_ASKS", "POLICY_ASKS", "few_shot_generate_ratio", "policy_overhead_ratio"]

FEW_SHOT_ASKS, POLICY_ASKS = 32, 2
_DECODING = Decoding(max_new_tokens=16)


def few_shot_generate_ratio(world: LiveWorld, asks: Sequence[Ask], seconds: float) -> float:
    """Time to answer asks in one batch, from nothing, over executing the whole prompt for each of them alone.

    Both stop at what ends an answer, so both decode the same tokens.
    """
    encoded = [world.runner.encode_ask(ask, world.prompts[ask.task]) for ask in asks]

    def together() -> None:
        world.runner.clear()
        world.generate(asks, world.identity, _DECODING)

    def each_alone() -> None:
        for one in encoded:
            generate(
                world.llm, [one.tokens.tolist()], world.identity, stop=[one.end] if one.end else [],
                max_new_tokens=_DECODING.max_new_tokens,
            )  # fmt: skip

    return time_ratio(together, each_alone, seconds)


class _IdentityPolicy(PolicyAgent):
    """Runs its network at every step, as a policy does, and spells the identity whatever comes out."""

    def logits(self, observation: Observation, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The network's logits, with the identity's next action far above all others."""
        logits = super().logits(observation, masks)
        depth = self.observer.depth
        cursor = np.rint(observation["cursor"][:, 0] * depth).astype(int)
        logits[np.arange(len(logits)), np.where(cursor < depth, cursor, depth + 1)] = np.inf
        return logits


def policy_overhead_ratio(world: LiveWorld, asks: Sequence[Ask], seconds: float) -> float:
    """Time to choose a program and answer under it, over answering with the identity: one ask at a time.

    Both execute the same layers.
    """
    observer = Observer(world.asks, EnvConfig())
    agent = _IdentityPolicy(new_policy(observer), observer)

    def with_policy() -> None:
        for ask in asks:
            world.runner.clear()
            program = agent.decide([ask])[0].program
            assert program == world.identity
            world.generate([ask], program, _DECODING)

    def with_identity() -> None:
        for ask in asks:
            world.runner.clear()
            world.generate([ask], world.identity, _DECODING)

    return time_ratio(with_policy, with_identity, seconds)
