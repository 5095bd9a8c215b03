"""The natively vectorised environment: many lanes, one LLM, one batch per distinct layer.

Axis letters: ``N`` lanes, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from polar_env.envs.config import EnvConfig
from polar_env.envs.episode import Episode, ProgramRules
from polar_env.envs.making import make_world
from polar_env.envs.observer import Observation
from polar_env.errors import ConfigError, EpisodeError, ForbiddenActionError, UnknownNameError
from polar_env.questions import Prompt, Prompts, Question

__all__ = ["ProgramVectorEnv"]


class ProgramVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """``num_envs`` lanes of `ProgramEnv` over one shared LLM.

    Lanes that need the same layer run as one batch; states reached before are not executed again. Lane ``i`` seeded
    with ``seed + i`` plays exactly the episodes of a `ProgramEnv` with that seed. All arrays are fresh at each step.

    Args:
        num_envs: number of lanes ``N``.
        model: see `ProgramEnv`, as all other arguments.
        autoreset_mode: when a lane whose episode ended starts the next one (`gymnasium.vector.AutoresetMode`).
            ``SameStep``: at once, its last observation is in ``infos["final_obs"]``. ``NextStep``: at the next step,
            which ignores its action and pays 0 (what RLlib counts on, and Gymnasium's wrappers of vector observations).
            ``Disabled``: at ``reset(options={"reset_mask": ...})`` (what TorchRL prefers).
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        model: Any = "smollm2-135m",
        questions: str | Sequence[str] | Sequence[Question] | None = None,
        prompt: str | Prompt | Prompts = "restate-6",
        split: str | None = "train",
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        **config: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}; it counts lanes and is at least 1.")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.config = EnvConfig.of(config, "the environment")
        world, loaded = make_world(model, questions, prompt, split)
        self.rules = ProgramRules(world, loaded, self.config)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = self.rules.observer.observation_space
        self.single_action_space = self.rules.observer.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.episodes: list[Episode] = []
        self._upcoming: list[Episode | None] = [None] * num_envs  # drawn ahead, so that many are prepared together

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every lane, or in those that ``options["reset_mask"]`` names, ``bool [N]``.

        Args:
            seed: an int gives lane ``i`` the seed ``seed + i``; a sequence has one for each lane, where None leaves the
                lane's generator as it is.
            options: ``reset_mask``, and those of `ProgramEnv`.

        Raises:
            ConfigError: for seeds or a mask that do not fit the lanes.
        """
        chosen = self._reset_mask(options)
        for lane, lane_seed in enumerate(self._seeds(seed)):
            if lane_seed is not None and chosen[lane]:
                self.generators[lane] = np.random.Generator(np.random.PCG64(np.random.SeedSequence(lane_seed)))
                self._upcoming[lane] = None
        self.episodes = [
            self._begin(lane, options) if chosen[lane] else self.episodes[lane] for lane in range(self.num_envs)
        ]
        self._prepare()
        # Also where a lane goes on: its mask would be empty otherwise.
        return self.rules.observe_episodes(self.episodes), self._infos(self.episodes)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One action in each lane, ``[N]``; when a lane starts its next episode: see ``autoreset_mode``.

        With same-step autoreset, ``infos["final_obs"][i]`` and ``infos["final_info"]`` hold the last ones of a lane
        ``i`` that ended.

        Raises:
            EpisodeError: before the first reset, or where a lane is over and autoreset is disabled.
            ConfigError: unless there is one integer for each lane.
            ForbiddenActionError: for an action that its lane's mask forbids; names the lane, and no lane has moved.
        """
        after, rewards = self._advance(self._actions(actions))  # [N], float64 [N]
        over = np.array([episode.draft.finished for episode in after])  # bool [N]
        truncated = np.zeros(self.num_envs, dtype=bool)  # bool [N]
        if self.autoreset_mode != AutoresetMode.SAME_STEP or not over.any():
            self.episodes = after
            self._prepare()
            return self.rules.observe_episodes(after), rewards, over, truncated, self._infos(after)
        self.episodes = [self._begin(lane) if over[lane] else episode for lane, episode in enumerate(after)]
        self._prepare()
        infos = self._infos(self.episodes) | {
            "final_obs": self._final_observations(after, over),
            "_final_obs": over.copy(),
            "final_info": self._infos(after, over),
            "_final_info": over.copy(),
        }
        return self.rules.observe_episodes(self.episodes), rewards, over, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions of every lane, ``bool [N, A]``, True = allowed."""
        return np.stack([self.rules.mask(episode.draft) for episode in self.episodes])

    def _begin(self, lane: int, options: dict[str, Any] | None = None) -> Episode:
        """The next episode of a lane: the one drawn ahead, unless the options name a question."""
        if options is not None and options.get("question") is not None:
            return self.rules.begin(self.generators[lane], options)
        episode, self._upcoming[lane] = self._upcoming[lane], None
        return episode or self.rules.begin(self.generators[lane], None)

    def _prepare(self) -> None:
        """Where the identity is new for a question in flight, execute it on all of them, and on those that follow."""
        identity, world = self.rules.world.identity, self.rules.world
        running = [episode for episode in self.episodes if not episode.draft.finished]
        if all(world.remembers(episode.question, identity) for episode in running):
            return
        for lane, generator in enumerate(self.generators):
            self._upcoming[lane] = self._upcoming[lane] or self.rules.begin(generator, None)
        self.rules.prepare([*running, *(episode for episode in self._upcoming if episode is not None)])

    def _advance(self, actions: list[int]) -> tuple[list[Episode], NDArray[np.float64]]:
        """The episodes after one action each, and the rewards ``[N]``; lanes that were over begin anew, for 0."""
        running = [lane for lane, episode in enumerate(self.episodes) if not episode.draft.finished]
        try:
            moved, paid = self.rules.step(
                [self.episodes[lane] for lane in running], [actions[lane] for lane in running]
            )
        except ForbiddenActionError as error:
            lane = next(lane for lane in running if not self._allows(self.episodes[lane], actions[lane]))
            raise ForbiddenActionError(f"lane {lane} (question {self.episodes[lane].question.id}): {error}") from error
        after, rewards = dict(zip(running, moved, strict=True)), np.zeros(self.num_envs)
        rewards[running] = paid
        return [after[i] if i in after else self._begin(i) for i in range(self.num_envs)], rewards

    def _allows(self, episode: Episode, action: int) -> bool:
        return 0 <= action < self.rules.language.n_actions and bool(self.rules.mask(episode.draft)[action])

    def _final_observations(self, after: Sequence[Episode], over: NDArray[np.bool_]) -> NDArray[np.object_]:
        """The last observations of the lanes that are over, ``object [N]``; None in the others."""
        ended = np.flatnonzero(over).tolist()
        batch = self.rules.observe_episodes([after[lane] for lane in ended])
        final = np.full(self.num_envs, None, dtype=object)
        for row, lane in enumerate(ended):
            final[lane] = {name: values[row].copy() for name, values in batch.items()}
        return final

    def _infos(self, episodes: Sequence[Episode], wanted: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """The lanes' infos in Gymnasium's vector form: arrays by key, with ``_key`` telling which lanes have it."""
        infos: dict[str, Any] = {}
        for lane, episode in enumerate(episodes):
            if wanted is None or wanted[lane]:
                infos = self._add_info(infos, self.rules.info(episode), lane)
        return infos

    def _actions(self, actions: NDArray[np.int64]) -> list[int]:
        """The actions as ints, once it is sure that the lanes can take them."""
        if not self.episodes:
            raise EpisodeError("there is no episode yet; call reset() first.")
        given = np.asarray(actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu":
            raise ConfigError(
                f"step() was given actions of shape {given.shape} and type {given.dtype}; "
                f"pass one integer for each lane, shape ({self.num_envs},)."
            )
        over = [lane for lane, episode in enumerate(self.episodes) if episode.draft.finished]
        if over and self.autoreset_mode == AutoresetMode.DISABLED:
            raise EpisodeError(f"lanes {over} are over; call reset(options={{'reset_mask': terminated}}) first.")
        return [int(action) for action in given]

    def _reset_mask(self, options: dict[str, Any] | None) -> NDArray[np.bool_]:
        """Which lanes to reset, ``bool [N]``."""
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (self.num_envs,)
        if not fits or not mask.any():
            raise ConfigError(
                f"reset_mask is {mask!r}; it is a bool array of shape ({self.num_envs},), True somewhere."
            )
        if not self.episodes and not mask.all():
            raise EpisodeError(
                f"lanes {np.flatnonzero(~mask).tolist()} have no episode yet; the first reset is of all."
            )
        return np.array(mask)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed for each lane; None where there is none."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [_lane_seed(int(seed) + lane, lane) for lane in range(self.num_envs)]
        if isinstance(seed, str) or not np.iterable(seed):
            raise ConfigError(f"seed {seed!r} is neither an integer nor a sequence of them, one for each lane.")
        if len(seed) != self.num_envs:
            raise ConfigError(f"reset() was given {len(seed)} seeds for {self.num_envs} lanes; pass one for each lane.")
        return [_lane_seed(one, lane) for lane, one in enumerate(seed)]


def _lane_seed(seed: Any, lane: int) -> int | None:
    if seed is None:
        return None
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigError(f"seed {seed!r} for lane {lane} is not possible; a seed is an integer and at least 0.")
    return int(seed)


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise UnknownNameError("autoreset mode", str(mode), [each.value for each in AutoresetMode]) from None
