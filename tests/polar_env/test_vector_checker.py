"""The checker passes what keeps the contract, and names every way of breaking it that is planted here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

import polar_env
from polar_env.errors import ForbiddenActionError, PolarError, VectorEnvError
from polar_env.questions import Question
from polar_env.worlds import LiveWorld
from tests.polar_env.test_envs import ENV_ID, VARIANTS, make
from tests.worlds import world_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_our_vector_environment_passes(world: LiveWorld, questions: list[Question], variant: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        polar_env.check_vector_env(
            lambda lanes: gym.make_vec(ENV_ID, lanes, model=world, questions=questions, **variant),
            lambda: make(world_of(world.llm, world.prompts), questions, **variant),
            steps=60,
            tolerance=2e-3,
            refuses=ForbiddenActionError,
            numpy_seeds=True,
        )


def cart_poles(lanes: int, mode: str = "SameStep", **arguments: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gym.make("CartPole-v1")] * lanes, autoreset_mode=mode, **arguments)


def test_gymnasiums_own_vector_environment_passes() -> None:
    polar_env.check_vector_env(cart_poles, lambda: gym.make("CartPole-v1"), tolerance=0.0)
    polar_env.check_vector_env(cart_poles, lanes=1, seed=5)


def test_tuples_and_images_pass() -> None:
    class Tuples(gym.ObservationWrapper):
        def __init__(self) -> None:
            super().__init__(gym.make("CartPole-v1"))
            pixels = gym.spaces.Box(0, 255, (2, 2, 3), np.uint8)
            self.observation_space = gym.spaces.Tuple((self.observation_space, pixels, gym.spaces.Discrete(3)))

        def observation(self, observation: Any) -> Any:
            return observation, np.full((2, 2, 3), int(abs(observation[0]) * 50), np.uint8), int(observation[0] > 0)

    polar_env.check_vector_env(lambda n: SyncVectorEnv([Tuples] * n, autoreset_mode="SameStep"), Tuples, steps=60)


@dataclass
class Returned:
    """What a reset (step 0) or a step returns, to be spoilt; ``kept`` lasts as long as the environment."""

    step: int
    observation: Any
    rewards: Any
    terminated: Any
    truncated: Any
    infos: Any
    kept: dict[str, Any]


class Broken(VectorWrapper):
    """A vector environment with one fault.

    Args:
        env: the faultless one.
        spoil: changes what is returned.
        seeds: changes the seed that is handed on.
        actions: changes the actions that are handed on, given the masks.
    """

    def __init__(
        self,
        env: VectorEnv,
        spoil: Callable[[Returned], None] = lambda returned: None,
        seeds: Callable[[Any], Any] = lambda seed: seed,
        actions: Callable[[Any, Any], Any] = lambda actions, masks: actions,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env)
        self.spoil, self.seeds, self.actions = spoil, seeds, actions
        self.kept: dict[str, Any] = {}
        self.count = 0
        self._metadata = metadata

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        observation, infos = self.env.reset(seed=self.seeds(seed), options=options)
        none, no = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        returned = Returned(0, observation, none, no, no.copy(), infos, self.kept)
        self.spoil(returned)
        self.count = 0
        return returned.observation, returned.infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.count += 1
        done = self.env.step(self.actions(actions, self.env.unwrapped.action_masks()))
        returned = Returned(self.count, *done, self.kept)
        self.spoil(returned)
        return returned.observation, returned.rewards, returned.terminated, returned.truncated, returned.infos


def rows(observation: dict[str, Any], lane: int) -> dict[str, Any]:
    return {name: values[lane].copy() for name, values in observation.items()}


def buffer_of_observations(r: Returned) -> None:
    buffer = r.kept.setdefault("hidden", r.observation["hidden"])
    buffer[:] = r.observation["hidden"]
    r.observation["hidden"] = buffer


def ring_of_three_masks(r: Returned) -> None:
    ring = r.kept.setdefault("ring", [r.infos["action_mask"].copy() for _ in range(3)])
    ring[r.step % 3][:] = r.infos["action_mask"]
    r.infos["action_mask"] = ring[r.step % 3]


def one_array_of_truncated(r: Returned) -> None:
    r.truncated = r.kept.setdefault("truncated", r.truncated) if r.step else r.truncated


def one_final_observation(r: Returned) -> None:
    for lane in np.flatnonzero(r.terminated):
        last = r.kept.setdefault("last", r.infos["final_obs"][lane])
        last |= r.infos["final_obs"][lane]
        r.infos["final_obs"][lane] = last


def mask_empty_after_an_end(r: Returned) -> None:
    r.infos["action_mask"][1] &= not r.terminated[1]


def mask_of_the_forbidden(r: Returned) -> None:
    r.infos["action_mask"] = ~r.infos["action_mask"]


def mask_of_integers(r: Returned) -> None:
    r.infos["action_mask"] = r.infos["action_mask"].astype(np.int8)


def mask_at_the_reset_only(r: Returned) -> None:
    if r.step:
        del r.infos["action_mask"]


def no_final_observation(r: Returned) -> None:
    for key in ("final_obs", "_final_obs"):
        r.infos.pop(key, None)


def no_final_info_in_a_lane(r: Returned) -> None:
    r.infos.get("_final_info", np.ones(3, bool))[2] = False


def final_observation_of_all(r: Returned) -> None:
    r.infos.get("_final_obs", np.ones(3, bool))[:] = True


def final_observation_left_out(r: Returned) -> None:
    if "final_obs" in r.infos:
        r.infos["final_obs"][:] = None


def final_observation_of_the_next_episode(r: Returned) -> None:
    for lane in np.flatnonzero(r.terminated):
        r.infos["final_obs"][lane] = rows(r.observation, lane)


def not_reset(r: Returned) -> None:
    for lane in np.flatnonzero(r.terminated):
        for name, values in r.infos["final_obs"][lane].items():
            r.observation[name][lane] = values


def wide_observation(r: Returned) -> None:
    r.observation["cursor"] = r.observation["cursor"].astype(np.float64)


def flat_observation(r: Returned) -> None:
    r.observation["budget"] = r.observation["budget"][:, 0]


def missing_key(r: Returned) -> None:
    del r.observation["budget"]


def outside_the_space(r: Returned) -> None:
    r.observation["budget"][2] += r.step == 4


def integer_rewards(r: Returned) -> None:
    r.rewards = r.rewards.astype(int)


def reward_not_a_number(r: Returned) -> None:
    r.rewards[1] = np.nan


def wrong_reward(r: Returned) -> None:
    r.rewards[2] += 0.5


def integer_ends(r: Returned) -> None:
    r.terminated = r.terminated.astype(int)


def truncated_of_one_lane(r: Returned) -> None:
    r.truncated = r.truncated[:1]


def infos_as_list(r: Returned) -> None:
    r.infos = [r.infos]


SPOILT: list[tuple[Callable[[Returned], None], str]] = [
    (buffer_of_observations, r"^step 1: observation\['hidden'\], returned at step 0, has changed since\. Return fresh"),
    (ring_of_three_masks, r"^step 3: infos\['action_mask'\], returned at step 0, has changed since"),
    (one_array_of_truncated, r"^step 2: truncated shares memory with that of the step before"),
    (one_final_observation, r"^step \d+: infos\['final_obs'\]\[\d\]\['\w+'\](, returned at step \d+, has| shares)"),
    (mask_empty_after_an_end, r"^lane 1, step \d+: the mask forbids every action\. Allow at least one"),
    (mask_of_integers, r"^step 0: infos\['action_mask'\] is int8\[3, 6\], expected bool\[3, 6\]"),
    (mask_at_the_reset_only, r"^step 1: infos\['action_mask'\] is NoneType, expected bool.*at every step"),
    (
        no_final_observation,
        r"^lane \d, step \d+: the episode ended but infos\['_final_obs'\] is not True.*at the next step",
    ),
    (no_final_info_in_a_lane, r"^lane 2, step \d+: the episode ended but infos\['_final_info'\] is not True"),
    (final_observation_of_all, r"^lane \d, step \d+: the episode goes on but has infos\['final_obs'\]"),
    (final_observation_left_out, r"^lane \d, step \d+: final_obs None is not in Dict"),
    (final_observation_of_the_next_episode, r"final_obs\['.*the single environment has .*from before the reset"),
    (not_reset, r"^lane \d, step \d+: observation\['.*the single environment has .*next episode's first observation"),
    (wide_observation, r"^step 0: observation\['cursor'\] is float64\[3, 1\], expected float32\[3, 1\]"),
    (flat_observation, r"^step 0: observation\['budget'\] is float32\[3\], expected float32\[3, 1\]"),
    (missing_key, r"^step 0: observation has \['hidden', .*expected \['budget'"),
    (outside_the_space, r"^lane 2, step 4: observation .* is not in Dict"),
    (integer_rewards, r"^step 1: rewards is int64\[3\], expected float\[3\]"),
    (reward_not_a_number, r"^lane 1, step 1: the reward is nan"),
    (wrong_reward, r"^lane 2, step 1: rewards is .*the single environment has .*do what a single environment does"),
    (integer_ends, r"^step 1: terminated is int64\[3\], expected bool\[3\]"),
    (truncated_of_one_lane, r"^step 1: truncated is bool\[1\], expected bool\[3\]"),
    (infos_as_list, r"(?s)^step 0: .* was returned\. Return observation, rewards, .*; infos is a dict"),
]


@pytest.fixture
def check(world: LiveWorld, questions: list[Question]) -> Callable[..., None]:
    """Checks our environment with a fault in it; ``single=False`` without comparing to single environments."""

    def run(
        single: bool = True, refuses: Any = None, mode: str = "SameStep", numpy_seeds: bool = False, **fault: Any
    ) -> None:
        polar_env.check_vector_env(
            lambda n: Broken(polar_env.ProgramVectorEnv(n, world, questions, autoreset_mode=mode), **fault),
            (lambda: make(world, questions)) if single else None,
            lanes=3,
            steps=40,
            tolerance=2e-3,
            refuses=refuses,
            numpy_seeds=numpy_seeds,
        )

    return run


def test_the_wrapper_without_a_fault_passes(check: Callable[..., None]) -> None:
    check(refuses=ForbiddenActionError, numpy_seeds=True)
    check(single=False)


@pytest.mark.parametrize(("spoil", "words"), SPOILT, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_spoilt_is_named(check: Callable[..., None], spoil: Callable[[Returned], None], words: str) -> None:
    with pytest.raises(VectorEnvError, match=words) as caught:
        check(spoil=spoil)
    assert isinstance(caught.value, PolarError)
    assert isinstance(caught.value, AssertionError)


def test_a_lane_that_is_never_reset_shows_without_single_environments(check: Callable[..., None]) -> None:
    with pytest.raises(VectorEnvError, match=r"^lane \d: at all \d+ ends the observation returned was the final one"):
        check(spoil=not_reset, single=False)


def test_a_mask_of_what_is_forbidden_shows_when_step_refuses_what_it_allows(check: Callable[..., None]) -> None:
    with pytest.raises(
        VectorEnvError, match=r"^step 1: step\(\) raised ForbiddenActionError\(.lane 0.* True means allowed"
    ):
        check(spoil=mask_of_the_forbidden, single=False)


def test_next_step_autoreset_under_another_name_is_found(check: Callable[..., None]) -> None:
    with pytest.raises(VectorEnvError, match=r"the episode ended but infos\['_final_obs'\] is not True"):
        check(mode="NextStep", metadata={"autoreset_mode": AutoresetMode.SAME_STEP})


def rotated(seed: Any) -> Any:
    return [seed + lane for lane in (1, 2, 0)] if isinstance(seed, int) else seed


def python_seed(seed: Any) -> Any:
    if isinstance(seed, np.integer):
        raise TypeError("a Python int, please")
    return seed


def test_seeds(check: Callable[..., None]) -> None:
    with pytest.raises(VectorEnvError, match=r"^lane 0, step 0: .*the single environment has .*with seed \+ i"):
        check(seeds=rotated)
    with pytest.raises(
        VectorEnvError, match=r"^lane \d, step 0: .* with the seed list \[0, 1, 2\], but was .* the seed int 0"
    ):
        check(seeds=rotated, single=False)
    with pytest.raises(VectorEnvError, match=r"^lane \d, step 0: .* with the seed int 0, but was"):
        check(seeds=lambda seed: None, single=False)
    with pytest.raises(VectorEnvError, match=r"^lane \d, step 0: .* with the seed int64 0, but was"):
        check(seeds=lambda seed: None if isinstance(seed, np.integer) else seed)
    check(seeds=python_seed)
    with pytest.raises(TypeError, match="a Python int"):
        check(seeds=python_seed, numpy_seeds=True)


def test_a_forbidden_action_is_refused_and_nothing_moves(
    check: Callable[..., None], world: LiveWorld, questions: list[Question]
) -> None:
    def nearest(actions: Any, masks: Any) -> Any:
        return np.where(masks[np.arange(3), actions], actions, masks.argmax(axis=1))

    with pytest.raises(VectorEnvError, match=r"^lane 0, step 0: step\(\) then took action 4, which the mask forbids"):
        check(actions=nearest, refuses=ForbiddenActionError)

    class Hasty(polar_env.ProgramVectorEnv):
        def step(self, actions: Any) -> Any:
            allowed = self.action_masks()[np.arange(self.num_envs), actions]
            result = super().step(nearest(actions, self.action_masks()))
            if not allowed.all():
                raise ForbiddenActionError("too late")
            return result

    with pytest.raises(
        VectorEnvError, match=r"^lane \d, step 1: .* after a refused action, but was .*before anything changes"
    ):
        polar_env.check_vector_env(
            lambda n: Hasty(n, world, questions), lanes=3, steps=40, refuses=ForbiddenActionError
        )


@pytest.mark.parametrize(
    ("make_vector", "words"),
    [
        (lambda n: cart_poles(n, copy=False), r"^step 1: observation, returned at step 0, has changed.*fresh arrays"),
        (lambda n: cart_poles(n, "NextStep"), r"autoreset_mode'\] is .*NEXT_STEP, expected .*SAME_STEP"),
        (lambda n: cart_poles(n + 1), r"^num_envs is 5 where 4 lanes were asked for"),
        (
            lambda n: gym.make("CartPole-v1"),
            r"^make_vector returned a TimeLimit.*Return a gymnasium\.vector\.VectorEnv",
        ),
    ],
    ids=["buffer", "next step", "lanes", "single"],
)
def test_an_environment_that_is_not_what_is_checked(make_vector: Any, words: str) -> None:
    with pytest.raises(VectorEnvError, match=words):
        polar_env.check_vector_env(make_vector)


def test_spaces_that_do_not_agree() -> None:
    def three_actions(lanes: int) -> VectorEnv:
        env = cart_poles(lanes)
        env.action_space = batch_space(gym.spaces.Discrete(3), lanes)
        return env

    with pytest.raises(VectorEnvError, match=r"^action_space is MultiDiscrete\(\[3 3.*Set batch_space"):
        polar_env.check_vector_env(three_actions)


def test_too_few_steps_to_say_anything() -> None:
    with pytest.raises(VectorEnvError, match=r"^no episode ended in 3 steps\. Pass more steps"):
        polar_env.check_vector_env(cart_poles, steps=3)


def test_the_environments_are_closed() -> None:
    made: list[Any] = []

    def keep(env: Any) -> Any:
        made.append(env)
        return env

    polar_env.check_vector_env(lambda n: keep(cart_poles(n)), lanes=2)
    assert made[0].closed
