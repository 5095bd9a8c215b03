"""The Gymnasium environment: one question, one lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from polar_env.envs.config import EnvConfig
from polar_env.envs.episode import START, Episode, ProgramRules
from polar_env.envs.making import make_world
from polar_env.envs.masked_discrete import MaskedDiscrete
from polar_env.envs.observer import Observation
from polar_env.envs.rendering import RENDERING, outcome, rendered
from polar_env.errors import EpisodeError
from polar_env.questions import Prompt, Prompts, Question

__all__ = ["ProgramEnv"]


class ProgramEnv(gym.Env[Observation, np.int64]):
    """Choose, layer by layer, which layers of a frozen LLM answer a question.

    ## Description
    One episode is one question. Each action executes layers of the LLM on the question's tokens; at the end the answer
    is read out and judged. The reward is correctness minus the cost of the executed layers. The policy decides while
    the layers run, so reading their hidden states costs no pass of its own.

    ## Action Space
    With ``language="layers"``, ``Discrete(D + 2)``: ``a < D`` executes layer ``a``; ``D`` repeats the module executed
    last (the run of consecutive layers since the last jump or repeat, at most 4); ``D + 1`` stops and answers.
    With ``language="segments"``, ``Discrete(12)``: at the cursor skip, keep or repeat 1 to 4 layers; the episode ends
    when the cursor reaches ``D``. Allowed actions: ``info["action_mask"]`` and `action_masks`, True = allowed, never
    empty; ``env.action_space.sample()`` draws among them. On a recorded world they lead to recorded programs only, and
    only its questions can be asked.

    ## Observation Space
    ``Dict`` of float32 boxes: ``hidden [2 H]``, the last prompt token's hidden state and the mean over the question's
    tokens, each divided by its root mean square; ``program [D]``, executions per layer; ``cursor [1]``, the layer that
    would come next, divided by ``D``; ``budget [1]``, the share of layers left. The gold answer never enters.

    ## Rewards
    ``-layer_cost * n / D`` for an action that executes ``n`` layers, and 1 at the end if the answer is right. Optional:
    ``reward`` names another way to earn at the end, ``relative=True`` subtracts what the identity program earns,
    ``shaping`` adds a potential-based term.

    ## Starting State
    A question drawn uniformly with the environment's random generator, or ``reset(options={"question": index})``.

    ## Episode End
    Terminates when the program is complete. Never truncates: the mask leaves only the stop once ``max_layers`` layers
    have run. The last info holds ``program``, ``right``, ``layers``, ``cost``, ``gold_log_prob``, ``answer``,
    ``identity_right``.

    ## Arguments
    ``model`` (a world, live or recorded, a `FrozenLLM`, a name, folder or hub id), ``questions`` (specs or `Question`
    objects; by default those of a recorded world, or the mixture ``arithmetic``), ``prompt`` (a name, `Prompt` or
    `Prompts`; a world has its own), ``split`` (train, validation, test or None for all), and the fields of `EnvConfig`:
    ``layer_cost``, ``language``, ``reward``, ``max_layers``, ``window``, ``observe``, ``relative``, ``shaping``,
    ``gamma``. ``render_mode`` is ``"ansi"`` or ``"rgb_array"``.

    ## Version History
    v0: first version.
    """

    metadata = RENDERING

    def __init__(
        self,
        model: Any = "smollm2-135m",
        questions: str | Sequence[str] | Sequence[Question] | None = None,
        prompt: str | Prompt | Prompts = "restate-6",
        split: str | None = "train",
        render_mode: str | None = None,
        **config: Any,
    ) -> None:
        self.config = EnvConfig.of(config, "the environment")
        world, loaded = make_world(model, questions, prompt, split)
        self.rules = ProgramRules(world, loaded, self.config)
        self.observation_space = self.rules.observer.observation_space  # type: ignore[assignment]
        self.action_space = MaskedDiscrete(
            self.rules.language.n_actions,
            lambda: None if self._episode is None else self.rules.mask(self._episode.draft),
            self.rules.mask(START),
        )
        self.render_mode = render_mode
        self._episode: Episode | None = None

    @property
    def episode(self) -> Episode:
        """The running or just finished episode; raises EpisodeError before the first reset."""
        if self._episode is None:
            raise EpisodeError("there is no episode yet; call reset() first.")
        return self._episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see Starting State."""
        super().reset(seed=seed)
        self._episode = self.rules.begin(self.np_random, options)
        self.rules.prepare([self._episode])
        return self._observation(), self.rules.info(self._episode)

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            EpisodeError: if the episode is over or was never started.
            ForbiddenActionError: if the mask forbids the action.
        """
        (self._episode,), (reward,) = self.rules.step([self.episode], [int(action)])
        return self._observation(), reward, self._episode.draft.finished, False, self.rules.info(self._episode)

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, ``bool [A]``, True = allowed (the name that sb3-contrib asks for)."""
        return self.rules.mask(self.episode.draft)

    def render(self) -> str | NDArray[np.uint8] | None:
        """The program so far: text, or a picture ``uint8 [height, width, 3]``."""
        episode = self.episode
        right = None if episode.verdict is None else episode.verdict.right
        came_out = outcome(right, episode.question.answer, self.rules.answer_text(episode))
        return rendered(self.render_mode, episode.question.text, episode.draft.layers, self.rules.depth, came_out)

    def _observation(self) -> Observation:
        return {name: values[0] for name, values in self.rules.observe_episodes([self.episode]).items()}
