"""The agent that plays a policy: it executes the program's layers while it chooses them.

Letters: ``A`` actions, ``B`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from agents.base import Decision, seeded_rng
from agents.card import AgentCard
from agents.explaining import Option, Step
from agents.policy.network import load_weights, new_policy
from polar_env.actions import Draft
from polar_env.envs import EnvConfig, Observer
from polar_env.envs.observer import Observation
from polar_env.errors import FingerprintError
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.runtime import torch_threads
from polar_env.worlds import AskWorld

if TYPE_CHECKING:
    from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

__all__ = ["KIND", "WEIGHTS", "PolicyAgent", "load_policy"]

KIND = "policy"
"""The kind in the card of a policy."""
WEIGHTS = "policy.safetensors"


class PolicyAgent:
    """Plays the policy's most likely action at every step; further programs are sampled.

    Deciding executes the layers of the program that is chosen, so answering starts from the states that are there.

    Args:
        policy: a trained policy.
        observer: what it sees.
        name: name of the row in a report.
        seed: with an ask's id it seeds the ask's samples.
        programs: how many programs a decision names.
    """

    def __init__(
        self,
        policy: MaskableActorCriticPolicy,
        observer: Observer,
        name: str = "ppo",
        seed: int = 0,
        programs: int = 1,
    ) -> None:
        self.policy, self.observer, self.name = policy, observer, name
        self.seed, self.programs = seed, programs

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The greedy program of each ask, then samples."""
        columns = [self._play(asks, sample) for sample in range(self.programs)]
        return [self._decision(row) for row in zip(*columns, strict=True)]

    def _decision(self, programs: Sequence[Program]) -> Decision:
        """A decision for these programs; layers executed for samples alone are on top of the first program's."""
        flops = self.flops_of_action * sum(self._actions(program) for program in programs)
        executed = {program.layers[:end] for program in programs for end in range(1, len(program) + 1)}
        extra = len(executed) - len(programs[0]) if self.observer.observe_layers else 0
        return Decision.of(*programs, layers=extra, flops=flops)

    def _actions(self, program: Program) -> int:
        """Actions that spell a program."""
        return len(self.observer.language.encode(program))

    @cached_property
    def flops_of_action(self) -> float:
        """Floating-point operations of the network for one action, counted by torch."""
        one = {name: np.zeros((1, *space.shape), np.float32) for name, space in self._spaces()}
        with FlopCounterMode(display=False) as counter:
            self.logits(one, np.ones((1, self.observer.language.n_actions), dtype=bool))
        return float(counter.get_total_flops())

    def _spaces(self) -> list[tuple[str, spaces.Box]]:
        return [(name, cast("spaces.Box", space)) for name, space in self.observer.observation_space.items()]

    def _play(self, asks: Sequence[Ask], sample: int) -> list[Program]:
        """One episode for each ask, without verdicts; sample 0 is greedy."""
        language = self.observer.language
        drafts = [Draft() for _ in asks]
        streams = [seeded_rng(self.seed, ask.id, sample) for ask in asks] if sample else []
        while running := [i for i, draft in enumerate(drafts) if not draft.finished]:
            observation = self.observer.observe([asks[i] for i in running], [drafts[i] for i in running])
            logits = self.logits(observation, np.stack([self.observer.mask(drafts[i]) for i in running]))
            if sample:  # the largest sum of a logit and Gumbel noise is a draw from the softmax
                logits = logits + np.stack([streams[i].gumbel(size=language.n_actions) for i in running])
            for i, action in zip(running, logits.argmax(-1), strict=True):
                drafts[i] = language.apply(drafts[i], int(action))
        return [Program(draft.layers) for draft in drafts]

    def explain(self, ask: Ask, most: int = 8) -> list[Step]:
        """The actions of its greedy program, one by one; see `agents.explaining`."""
        language, draft, steps = self.observer.language, Draft(), list[Step]()
        while not draft.finished:
            logits = self.logits(self.observer.observe([ask], [draft]), self.observer.mask(draft)[None])[0]
            probabilities = np.exp(logits - np.logaddexp.reduce(logits))
            order = np.argsort(-logits, kind="stable")[:most]
            allowed = [int(action) for action in order if probabilities[action] > 0]
            options = tuple(Option(language.describe(action), float(probabilities[action])) for action in allowed)
            steps.append(Step(f"the state after {Program(draft.layers) if draft.layers else 'no layer'}", options))
            draft = language.apply(draft, int(order[0]))
        return steps

    @torch.inference_mode()
    def logits(self, observation: Observation, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Logits of the actions, ``[B, A]``, minus infinity where the mask forbids: those behind ``predict``."""
        policy = self.policy
        with torch_threads(1):
            features: Any = policy.extract_features({k: torch.as_tensor(v) for k, v in observation.items()})
            if isinstance(features, tuple):  # where actor and critic have an extractor each
                features = features[0]
            logits = policy.action_net(policy.mlp_extractor.forward_actor(features))  # [B, A]
        return np.where(masks, logits.double().numpy(), -np.inf)


def load_policy(folder: Path, card: AgentCard, world: AskWorld) -> PolicyAgent:
    """A saved policy: its card's ``config`` holds the environment as ``env``, its weights lie beside the card.

    Raises:
        ConfigError: if the card lacks the environment, or the weights are damaged.
        FingerprintError: if the card names no hash of the weights, or they are of another network.
    """
    observer = Observer(world, EnvConfig.of(card.setting("env"), f"the card in {folder}"))
    if WEIGHTS not in card.weights:
        raise FingerprintError(
            f"the card in {folder} names no sha256 of {WEIGHTS}, so nothing says that these weights are the agent's. "
            "Train the agent again."
        )
    policy = new_policy(observer)
    load_weights(policy, folder / WEIGHTS)
    policy.set_training_mode(False)
    return PolicyAgent(policy, observer, card.name, card.seed)
