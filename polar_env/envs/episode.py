"""The rules of an episode, shared by the single and the vectorised environment.

Axis letters: ``D`` the model's depth, ``H`` its width, ``A`` actions, ``N`` lanes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polar_env.actions import Draft
from polar_env.envs.config import EnvConfig
from polar_env.envs.observer import Observation, Observer
from polar_env.envs.rewards import Outcome
from polar_env.errors import ConfigError, EpisodeError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Verdict
from polar_env.worlds import World

__all__ = ["Episode", "ProgramRules"]

START = Draft()


@dataclass(frozen=True)
class Episode:
    """One question being answered.

    Attributes:
        question: the question.
        draft: the program so far.
        potential: shaping potential of the current state, 0 where shaping is off.
        ret: sum of rewards so far.
        verdict: what the program made of the question; None while the episode runs.
    """

    question: Question
    draft: Draft = START
    potential: float = 0.0
    ret: float = 0.0
    verdict: Verdict | None = None

    @property
    def program(self) -> Program:
        """The program so far; raises ProgramError while it is empty."""
        return Program(self.draft.layers)


class ProgramRules:
    """What actions do and what is paid; what is observed is the observer's business, which knows no answer.

    Args:
        world: executes programs on questions.
        questions: the questions that episodes draw from.
        config: the settings.

    Raises:
        ConfigError: if there are no questions.
        QuestionTooLongError, MemoryBoundError: for a question that cannot be executed.
    """

    def __init__(self, world: World, questions: Sequence[Question], config: EnvConfig) -> None:
        if not questions:
            raise ConfigError("the environment was given no questions; pass a spec such as 'arithmetic' or a list.")
        world.check(questions)
        self.observer = Observer(world.asks, config)
        self.questions, self.config = list(questions), config
        self.world, self.depth, self.layer_cost = world, world.depth, config.layer_cost
        self.language, self.mask = self.observer.language, self.observer.mask
        self.reward = config.make_reward()

    def begin(self, rng: np.random.Generator, options: dict[str, Any] | None) -> Episode:
        """A new episode: a question at random, or the one at ``options["question"]``.

        Raises:
            ConfigError: for an index out of range.
        """
        index = (options or {}).get("question")
        if index is None:
            index = int(rng.integers(len(self.questions)))
        if not 0 <= index < len(self.questions):
            raise ConfigError(f"question {index} does not exist; there are {len(self.questions)}, numbered from 0.")
        return Episode(self.questions[index])

    def prepare(self, episodes: Sequence[Episode]) -> None:
        """Execute the identity on the questions of episodes that are about to run, all together.

        Its verdict is needed at the end of each, and most programs begin as it does.
        """
        identity = self.world.identity
        new = [e.question for e in episodes if not self.world.remembers(e.question, identity)]
        if new:
            self.world.observations([(question.ask, identity.layers) for question in new])
            self.world.verdicts([(question, identity) for question in new])

    def step(self, episodes: Sequence[Episode], actions: Sequence[int]) -> tuple[list[Episode], list[float]]:
        """One action in each episode; the world runs lanes that need the same layer as one batch.

        Returns:
            The episodes after their actions, and the rewards.

        Raises:
            EpisodeError: if an episode is over; ForbiddenActionError for an action that its mask forbids.
        """
        for episode in episodes:
            if episode.draft.finished:
                raise EpisodeError("this episode is over; call reset() before the next step.")
        drafts = [self.language.apply(e.draft, int(a)) for e, a in zip(episodes, actions, strict=True)]
        moved = [replace(e, draft=draft) for e, draft in zip(episodes, drafts, strict=True)]
        paid = [
            len(after.draft.layers) - len(before.draft.layers) for before, after in zip(episodes, moved, strict=True)
        ]
        rewards = [-self.layer_cost * layers / self.depth for layers in paid]
        over = [i for i, episode in enumerate(moved) if episode.draft.finished]
        verdicts = self.world.verdicts([(moved[i].question, moved[i].program) for i in over])
        identities = self.world.verdicts([(moved[i].question, self.world.identity) for i in over])
        for i, verdict, identity in zip(over, verdicts, identities, strict=True):
            rewards[i] += self.earned(moved[i].question, moved[i].program, verdict)
            if self.config.relative:
                rewards[i] -= self.earned(moved[i].question, self.world.identity, identity)
            moved[i] = replace(moved[i], verdict=verdict)
        if self.config.shaping:
            rewards = [r + s for r, s in zip(rewards, self._shape(moved), strict=True)]
        moved = [replace(e, ret=e.ret + reward) for e, reward in zip(moved, rewards, strict=True)]
        return moved, rewards

    def earned(self, question: Question, program: Program, verdict: Verdict) -> float:
        """What a finished program earns, without the price of its layers.

        Raises:
            ConfigError: for a reward that is no finite number.
        """
        reward = float(self.reward(Outcome(question, program, verdict, self.depth)))
        if not math.isfinite(reward):
            raise ConfigError(
                f"reward '{self.config.reward}' gives {reward} for program '{program}' on question {question.id}; a "
                "reward is a finite number."
            )
        return reward

    def _shape(self, episodes: list[Episode]) -> list[float]:
        """Potential differences ``gamma * phi(s') - phi(s)``; writes the new potentials into ``episodes``."""
        differences = []
        for i, (episode, potential) in enumerate(zip(episodes, self.potentials(episodes), strict=True)):
            differences.append(self.config.gamma * potential - episode.potential)
            episodes[i] = replace(episode, potential=potential)
        return differences

    def potentials(self, episodes: Sequence[Episode]) -> list[float]:
        """The shaping potential of where each episode stands.

        That of a finished episode is 0, and so is that of the start, where no layer has run.
        """
        running = [i for i, e in enumerate(episodes) if not e.draft.finished and e.draft.layers]
        verdicts = self.world.verdicts([(episodes[i].question, episodes[i].program) for i in running])
        potentials = dict.fromkeys(range(len(episodes)), 0.0)
        potentials |= {i: self.config.shaping * v.log_prob for i, v in zip(running, verdicts, strict=True)}
        return list(potentials.values())

    def observe_episodes(self, episodes: Sequence[Episode]) -> Observation:
        """Observations of ``N`` episodes, each array ``float32 [N, ...]`` and freshly made."""
        return self.observer.observe([e.question.ask for e in episodes], [e.draft for e in episodes])

    def answer_text(self, episode: Episode) -> str:
        """What the program answered, as far as the verdict shows it: see `Verdict`; empty while it runs."""
        return self.world.text_of(episode.verdict.answer_tokens) if episode.verdict else ""

    def info(self, episode: Episode) -> dict[str, Any]:
        """The info dictionary: the mask, and at the end what came of the program."""
        info: dict[str, Any] = {"action_mask": self.mask(episode.draft), "question": episode.question.id}
        if episode.verdict is not None:
            identity = self.world.verdicts([(episode.question, self.world.identity)])[0]
            info |= {
                "program": str(episode.program),
                "right": episode.verdict.right,
                "layers": len(episode.program),
                "cost": episode.program.cost(self.depth),
                "gold_log_prob": episode.verdict.log_prob,
                "answer": self.answer_text(episode),
                "identity_right": identity.right,
            }
        return info
