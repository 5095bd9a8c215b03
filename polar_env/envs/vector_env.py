"""The natively vectorised environment: many lanes, one LLM, one batch per distinct layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from polar_env.envs.episode import Episode, Observation, ProgramRules, make_executor
from polar_env.errors import EpisodeError
from polar_env.questions import Prompt, Question

__all__ = ["ProgramVectorEnv"]


class ProgramVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """``num_envs`` lanes of `ProgramEnv` over one shared LLM, with same-step autoreset.

    Lanes that need the same layer run as one batch; states reached before are not executed again. Lane ``i`` seeded
    with ``seed + i`` plays exactly the episodes of a `ProgramEnv` with that seed. All arrays are fresh at each step.

    Args:
        num_envs: number of lanes ``N``.
        model: see `ProgramEnv`, as all other arguments.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        model: Any = "smollm2-135m",
        questions: str | Sequence[str] | Sequence[Question] = "arithmetic",
        prompt: str | Prompt = "restate-6",
        split: str | None = "train",
        render_mode: str | None = None,
        **rules: Any,
    ) -> None:
        executor, loaded = make_executor(model, questions, prompt, split)
        self.rules = ProgramRules(executor, loaded, **rules)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = self.rules.observation_space
        self.single_action_space = self.rules.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.episodes: list[Episode] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every lane; an int seed gives lane ``i`` the seed ``seed + i``."""
        seeds: Sequence[int | None]
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + lane for lane in range(self.num_envs)]
        else:
            seeds = seed
        for lane, lane_seed in enumerate(seeds):
            if lane_seed is not None:
                self.generators[lane] = np.random.Generator(np.random.PCG64(np.random.SeedSequence(lane_seed)))
        self.episodes = [self.rules.begin(generator, options) for generator in self.generators]
        return self.rules.observe(self.episodes), self._infos(self.episodes)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One action in each lane, ``[N]``; lanes whose episode ends start the next one at once.

        Where lane ``i`` ended, ``infos["final_obs"][i]`` and ``infos["final_info"]`` hold the last ones.

        Raises:
            EpisodeError: before the first reset; ForbiddenActionError for an action that its lane's mask forbids.
        """
        if not self.episodes:
            raise EpisodeError("there is no episode yet; call reset() first.")
        after, rewards = self.rules.step(self.episodes, [int(action) for action in actions])
        over = np.array([episode.draft.finished for episode in after])
        self.episodes = [
            self.rules.begin(generator, None) if finished else episode
            for episode, finished, generator in zip(after, over, self.generators, strict=True)
        ]
        infos = self._infos(self.episodes)
        if over.any():
            ended = [episode for episode in after if episode.draft.finished]
            rows = iter(_unbatch(self.rules.observe(ended), len(ended)))
            final_obs = np.full(self.num_envs, None, dtype=object)
            for lane in np.flatnonzero(over):
                final_obs[lane] = next(rows)
            infos |= {
                "final_obs": final_obs,
                "_final_obs": over.copy(),
                "final_info": self._infos(after, over),
                "_final_info": over.copy(),
            }
        truncated = np.zeros(self.num_envs, dtype=bool)
        return self.rules.observe(self.episodes), np.array(rewards), over, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions of every lane, ``bool [N, A]``, True = allowed."""
        return np.stack([self.rules.mask(episode) for episode in self.episodes])

    def _infos(self, episodes: Sequence[Episode], wanted: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """The lanes' infos in Gymnasium's vector form: arrays by key, with ``_key`` telling which lanes have it."""
        infos: dict[str, Any] = {}
        for lane, episode in enumerate(episodes):
            if wanted is None or wanted[lane]:
                infos = self._add_info(infos, self.rules.info(episode), lane)
        return infos


def _unbatch(observation: Observation, count: int) -> list[Observation]:
    return [{name: values[row].copy() for name, values in observation.items()} for row in range(count)]
