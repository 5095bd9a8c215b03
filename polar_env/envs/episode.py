"""The rules of an episode, shared by the single and the vectorised environment.

Axis letters: ``D`` the model's depth, ``H`` its width, ``A`` actions, ``N`` lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from polar_env.actions import Draft, make_language
from polar_env.errors import ConfigError, EpisodeError, UnknownNameError
from polar_env.executor import Executor, Verdict
from polar_env.program import Program
from polar_env.questions import Prompt, Question, load_questions, make_prompt

__all__ = ["Episode", "Observation", "ProgramRules", "make_executor"]

Observation = dict[str, NDArray[np.float32]]
START = Draft()
OBSERVE = ("layers", "question")


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
    """What actions do, what is observed, and what is paid.

    Args:
        executor: executes programs on questions.
        questions: the questions that episodes draw from.
        layer_cost: reward paid per executed layer, divided by ``D``: the identity program pays ``layer_cost``.
        language: name of the action language, ``layers`` or ``segments``.
        max_steps: most layers that a program may execute; None is ``2 D``.
        window: see `LayersLanguage`; None is any layer.
        observe: ``layers`` (hidden states after the layers executed so far) or ``question`` (before any layer).
        relative: subtract the identity program's verdict on the same question from the final reward; the best policy
            stays the same, the variance of returns shrinks.
        shaping: scale of potential-based shaping by the gold answer's log-probability (Ng et al. 1999); 0 is off.
        gamma: discount that the shaping assumes.
    """

    def __init__(
        self,
        executor: Executor,
        questions: Sequence[Question],
        *,
        layer_cost: float = 0.1,
        language: str = "layers",
        max_steps: int | None = None,
        window: int | None = None,
        observe: str = "layers",
        relative: bool = False,
        shaping: float = 0.0,
        gamma: float = 1.0,
    ) -> None:
        if not questions:
            raise ConfigError("the environment was given no questions; pass a spec such as 'arithmetic' or a list.")
        if layer_cost < 0:
            raise ConfigError(f"layer_cost is {layer_cost}; it is a price and at least 0.")
        if observe not in OBSERVE:
            raise UnknownNameError("observation", observe, OBSERVE)
        executor.check(questions)
        self.executor, self.questions = executor, list(questions)
        self.depth, self.layer_cost = executor.depth, layer_cost
        self.language = make_language(language, self.depth, max_steps, window)
        self.observe_layers, self.relative = observe == "layers", relative
        self.shaping, self.gamma = shaping, gamma
        width = 2 * executor.llm.width
        # Root-mean-square normalised, so no entry exceeds the square root of the width.
        bound = float(np.sqrt(executor.llm.width)) + 1.0
        self.observation_space = spaces.Dict(
            {
                "hidden": spaces.Box(-bound, bound, (width,), np.float32),
                "program": spaces.Box(0.0, float(self.language.max_steps), (self.depth,), np.float32),
                "cursor": spaces.Box(0.0, 1.0, (1,), np.float32),
                "budget": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(self.language.n_actions)

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

    def step(self, episodes: Sequence[Episode], actions: Sequence[int]) -> tuple[list[Episode], list[float]]:
        """One action in each episode; the executor runs lanes that need the same layer as one batch.

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
        verdicts = self.executor.verdicts(
            [(moved[i].question, moved[i].program) for i in over] + self._identities(moved, over)
        )
        for position, i in enumerate(over):
            verdict = verdicts[position]
            baseline = verdicts[position + len(over)].right if self.relative else False
            rewards[i] += float(verdict.right) - float(baseline)
            moved[i] = replace(moved[i], verdict=verdict)
        if self.shaping:
            rewards = [r + s for r, s in zip(rewards, self._shape(moved), strict=True)]
        moved = [replace(e, ret=e.ret + reward) for e, reward in zip(moved, rewards, strict=True)]
        return moved, rewards

    def _identities(self, episodes: Sequence[Episode], over: Sequence[int]) -> list[tuple[Question, Program]]:
        """The identity on the questions of episodes that are over, which their infos tell; if it is new for one of
        them, also on all others in flight: they will need it, and together it costs least.
        """
        identity = self.executor.llm.identity
        asked = [episodes[i].question for i in over]
        if not all(self.executor.knows(question, identity) for question in asked):
            asked += [episode.question for episode in episodes if not episode.draft.finished]
        return [(question, identity) for question in asked]

    def _shape(self, episodes: list[Episode]) -> list[float]:
        """Potential differences ``gamma * phi(s') - phi(s)``; writes the new potentials into ``episodes``.

        The potential of a finished episode is 0, and so is that of the start, where no layer has run.
        """
        running = [i for i, e in enumerate(episodes) if not e.draft.finished and e.draft.layers]
        verdicts = self.executor.verdicts([(episodes[i].question, episodes[i].program) for i in running])
        potentials = dict.fromkeys(range(len(episodes)), 0.0)
        potentials |= {i: self.shaping * v.log_prob for i, v in zip(running, verdicts, strict=True)}
        differences = []
        for i, episode in enumerate(episodes):
            differences.append(self.gamma * potentials[i] - episode.potential)
            episodes[i] = replace(episode, potential=potentials[i])
        return differences

    def observe(self, episodes: Sequence[Episode]) -> Observation:
        """Observations of ``N`` episodes, each array ``float32 [N, ...]`` and freshly made."""
        layers = [e.draft.layers if self.observe_layers else () for e in episodes]
        hidden = self.executor.features([(e.question, done) for e, done in zip(episodes, layers, strict=True)])
        counts = np.zeros((len(episodes), self.depth), np.float32)
        for row, episode in zip(counts, episodes, strict=True):
            if episode.draft.layers:
                row[:] = np.bincount(episode.draft.layers, minlength=self.depth)
        cursor = [[e.draft.cursor / self.depth] for e in episodes]
        budget = [[1.0 - len(e.draft.layers) / self.language.max_steps] for e in episodes]
        return {
            "hidden": hidden,
            "program": counts,
            "cursor": np.array(cursor, np.float32),
            "budget": np.array(budget, np.float32),
        }

    def mask(self, episode: Episode) -> NDArray[np.bool_]:
        """Allowed actions, ``bool [A]``, True = allowed; all True once the episode is over."""
        if episode.draft.finished:
            return np.ones(self.language.n_actions, dtype=bool)
        return self.language.mask(episode.draft)

    def said(self, episode: Episode) -> str:
        """What the program answered, as far as the verdict shows it: see `Verdict.said`; empty while it runs."""
        tokens = episode.verdict.said if episode.verdict else ()
        return str(self.executor.llm.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def info(self, episode: Episode) -> dict[str, Any]:
        """The info dictionary: the mask, and at the end what came of the program."""
        info: dict[str, Any] = {"action_mask": self.mask(episode), "question": episode.question.id}
        if episode.verdict is not None:
            identity = self.executor.verdicts([(episode.question, self.executor.llm.identity)])[0]
            info |= {
                "program": str(episode.program),
                "right": episode.verdict.right,
                "layers": len(episode.program),
                "cost": episode.program.cost(self.depth),
                "gold_log_prob": episode.verdict.log_prob,
                "said": self.said(episode),
                "identity_right": identity.right,
            }
        return info


def make_executor(
    model: Any,
    questions: str | Sequence[str] | Sequence[Question],
    prompt: str | Prompt,
    split: str | None,
) -> tuple[Executor, list[Question]]:
    """What `gymnasium.make` is given, as objects.

    Args:
        model: an `Executor`, a `FrozenLLM`, or whatever `load_llm` takes.
        questions: question specs, or questions.
        prompt: a `Prompt`, or the name of one whose examples come from the train questions.
        split: which split of the specs to use; None is all of it.
    """
    from polar_env.llm import FrozenLLM, load_llm

    specs = [questions] if isinstance(questions, str) else list(questions)
    texts = [spec for spec in specs if isinstance(spec, str)]
    given = [question for question in specs if isinstance(question, Question)]
    loaded = given + (load_questions(texts, split) if texts else [])  # type: ignore[arg-type]
    if isinstance(model, Executor):
        return model, loaded
    if isinstance(prompt, str):
        pool = load_questions(texts, "train") if texts else [q for q in given if q.split == "train"]
        prompt = make_prompt(prompt, pool)
        asked = {example.question for example in prompt.examples}
        loaded = [question for question in loaded if question.text not in asked]
    llm = model if isinstance(model, FrozenLLM) else load_llm(str(model))
    return Executor(llm, prompt), loaded
