"""A checker for vector environments; Gymnasium's `check_env` knows single ones only.

Axis letters: ``N`` lanes, ``A`` actions.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from polar_env.errors import VectorEnvError

__all__ = ["check_vector_env"]

AnyEnv: TypeAlias = gym.Env[Any, Any]
AnyVectorEnv: TypeAlias = VectorEnv[Any, Any, Any]
Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Leaves: TypeAlias = dict[str, Any]
"""Arrays and scalars by name, e.g. ``observation['hidden']``."""

MASK = "action_mask"
PARTS = ("observation", "rewards", "terminated", "truncated", "infos")
BATCHED = (*PARTS[:4], f"infos['{MASK}']")
"""Names of what is ``[N, ...]``."""
REPEATED = (*BATCHED, "infos['final_obs']")
"""What a seed must repeat; other infos may hold times and the like."""
REMEMBERED = 8
"""How many steps back what was handed out is watched: rings of fewer buffers are found."""


def check_vector_env(
    make_vector: Callable[[int], AnyVectorEnv],
    make_single: Callable[[], AnyEnv] | None = None,
    *,
    lanes: int = 4,
    steps: int = 200,
    seed: int = 0,
    tolerance: float = 1e-4,
    refuses: Errors | None = None,
    numpy_seeds: bool = False,
) -> None:
    """Play a vector environment at random and check that it keeps Gymnasium's contract for same-step autoreset.

    Checked is: the spaces, and that whatever is returned has their shapes and dtypes and lies in them; that nothing
    handed out changes later (SB3 reads observations after the next step); masks in ``infos["action_mask"]``, where
    there are any: bool ``[N, A]``, True = allowed, never empty; ``final_obs`` and ``final_info`` of exactly the lanes
    that ended, whose observation is a new episode's; that ``N`` lanes are ``N`` single environments step by step; that
    a seed repeats its trajectory, however it is written.

    Args:
        make_vector: makes the environment with the number of lanes that it is given; called once, and closed.
        make_single: makes the single environment that lane ``i`` equals when it is seeded with ``seed + i``. None
            leaves that out; whether lanes were really reset is then only judged by their observations' changing.
        lanes: number of lanes ``N``.
        steps: steps to play; an episode must end within them.
        seed: seed of the environment, and of the actions, which are drawn among the allowed ones.
        tolerance: how far observations and rewards may differ where they should be equal, absolute.
        refuses: what `step` raises for an action that the mask forbids, before it changes anything; None: not checked.
        numpy_seeds: ``np.int64`` seeds must do what ints do. Without it they may also be refused, as Gymnasium's own
            environments do; they may never do anything else.

    Raises:
        VectorEnvError: at the first fault: what was given, what was expected, lane and step (0 is the reset), the mend.

    Example:
        >>> check_vector_env(
        ...     lambda lanes: gym.make_vec("CartPole-v1", lanes, "sync", vector_kwargs={"autoreset_mode": "SameStep"}),
        ...     lambda: gym.make("CartPole-v1"),
        ... )
    """
    env = make_vector(lanes)
    singles = _Singles([make_single() for _ in range(lanes)] if make_single else [], seed, tolerance)
    try:
        _check_spaces(env, lanes)
        played: list[Leaves] = []
        recent: deque[_Turn] = deque(maxlen=REMEMBERED)
        resets = _Resets(lanes)
        for turn in _play(env, seed, steps, seed):
            _check_returned(env, turn)
            _check_masks(env, turn, wanted=f"infos['{MASK}']" in played[0] if played else turn.masks is not None)
            _check_final(env, turn)
            _check_fresh(recent, turn)
            singles.follow(env, turn)
            resets.count(env, turn)
            recent.append(turn)
            played.append(turn.leaves)
        resets.judge(steps)
        for same in (seed, [seed + lane for lane in range(lanes)], np.int64(seed)):
            if numpy_seeds or not isinstance(same, np.int64) or _takes(env, same):
                _check_repeats(env, same, played, seed, tolerance)
        if refuses is not None:
            _check_repeats(env, seed, played, seed, tolerance, refuses)
    finally:
        env.close()
        for single in singles.envs:
            single.close()


def _fail(fault: str, mend: str, *, lane: int | None = None, step: int | None = None) -> NoReturn:
    where = [f"{name} {number}" for name, number in (("lane", lane), ("step", step)) if number is not None]
    raise VectorEnvError(f"{', '.join(where)}: {fault}. {mend}." if where else f"{fault}. {mend}.")


@dataclass(frozen=True)
class _Turn:
    """What a reset (step 0) or a step was given and returned, as it was handed out; ``leaves`` are copies."""

    step: int
    actions: Any
    observation: Any
    rewards: Any
    terminated: Any
    truncated: Any
    infos: Any
    leaves: Leaves

    @staticmethod
    def of(step: int, actions: Any, returned: tuple[Any, ...]) -> _Turn:
        if not isinstance(returned, tuple) or len(returned) != len(PARTS) or not isinstance(returned[-1], dict):
            _fail(f"{_show(returned)} was returned", f"Return {', '.join(PARTS)}; infos is a dict", step=step)
        leaves = {name: copy.copy(leaf) for name, leaf in _named(returned)}
        observation, rewards, terminated, truncated, infos = returned
        return _Turn(step, actions, observation, rewards, terminated, truncated, infos, leaves)

    def now(self) -> Leaves:
        """What was handed out, as it is now."""
        return dict(_named((self.observation, self.rewards, self.terminated, self.truncated, self.infos)))

    @property
    def masks(self) -> Any:
        """The masks, ``bool [N, A]``; None without any."""
        return self.infos.get(MASK)

    @property
    def over(self) -> NDArray[np.bool_]:
        """Which lanes ended, ``bool [N]``."""
        return np.asarray(self.terminated | self.truncated)

    def fail(self, fault: str, mend: str, lane: int | None = None) -> NoReturn:
        _fail(fault, mend, lane=lane, step=self.step)


def _named(returned: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in zip(PARTS, returned, strict=True):
        yield from _leaves(value, name)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays and scalars in nested dicts, sequences and object arrays, by name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{index}]")
    elif value is None or isinstance(value, np.ndarray | np.generic | int | float | str):
        yield name, value


def _same(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    if np.shape(a) != np.shape(b):
        return False
    if all(np.issubdtype(np.asarray(value).dtype, np.inexact) for value in (a, b)):
        return bool(np.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True))
    return bool(np.array_equal(a, b))


def _show(value: Any) -> str:
    """A value in few words."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{value.dtype}{list(value.shape)} {value.ravel()[:4].tolist()}..."
    text = str(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    return text if len(text) < 120 else f"{text[:120]}..."


def _show_apart(a: Any, b: Any) -> tuple[str, str]:
    """Two values that differ, in few words; of large arrays the place where they differ most."""
    numbers = all(np.asarray(value).dtype.kind in "biuf" for value in (a, b))
    if np.shape(a) != np.shape(b) or np.size(a) <= 8 or not numbers:
        return _show(a), _show(b)
    apart = np.nan_to_num(np.abs(np.asarray(a, float) - np.asarray(b, float)), nan=np.inf)
    place = np.unravel_index(apart.argmax(), apart.shape)
    return f"{a[place]} at {list(map(int, place))}", f"{b[place]}"


def _made(value: Any) -> str:
    """An array's dtype and shape in few words."""
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _play(env: AnyVectorEnv, seed: Any, steps: int, draws: int) -> Iterator[_Turn]:
    """Reset with ``seed``, then take random allowed actions, which follow from ``draws`` and the masks alone."""
    space = copy.deepcopy(env.action_space)
    space.seed(draws)
    observation, infos = env.reset(seed=seed)
    none, no = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    turn = _Turn.of(0, None, (observation, none, no, no.copy(), infos))
    for step in range(1, steps + 1):
        yield turn
        masks = turn.masks
        actions = space.sample(None if masks is None else tuple(mask.astype(np.int8) for mask in masks))
        try:
            returned = env.step(actions)
        except Exception as error:
            if masks is None:
                raise
            fault = f"step() raised {error!r} for actions that the masks allow, {_show(actions)}"
            raise VectorEnvError(f"step {step}: {fault}. In a mask True means allowed.") from error
        turn = _Turn.of(step, actions, returned)
    yield turn


def _check_spaces(env: AnyVectorEnv, lanes: int) -> None:
    if not isinstance(env, VectorEnv):
        _fail(f"make_vector returned a {type(env).__name__}", "Return a gymnasium.vector.VectorEnv")
    if env.num_envs != lanes:
        _fail(f"num_envs is {env.num_envs} where {lanes} lanes were asked for", "Make as many lanes as asked for")
    for kind in ("observation", "action"):
        batched, wanted = getattr(env, f"{kind}_space"), batch_space(getattr(env, f"single_{kind}_space"), lanes)
        if batched != wanted:
            _fail(f"{kind}_space is {batched}, expected {wanted}", f"Set batch_space(single_{kind}_space, num_envs)")
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        _fail(
            f"metadata['autoreset_mode'] is {mode}, expected {AutoresetMode.SAME_STEP}",
            "Make it with same-step autoreset, the only one that this checker knows, or mend what it says of itself",
        )


def _check_returned(env: AnyVectorEnv, turn: _Turn) -> None:
    """Shapes, dtypes and ranges."""
    _check_arrays(turn, turn.observation, env.observation_space, "observation")
    for lane, row in enumerate(iterate(env.observation_space, turn.observation)):
        if row not in env.single_observation_space:
            space = env.single_observation_space
            turn.fail(f"observation {_show(row)} is not in {space}", "Widen the space or mend the values", lane)
    for name, kind in (("rewards", np.floating), ("terminated", np.bool_), ("truncated", np.bool_)):
        array, word = getattr(turn, name), "bool" if kind is np.bool_ else "float"
        fits = isinstance(array, np.ndarray) and array.shape == (env.num_envs,) and np.issubdtype(array.dtype, kind)
        if not fits:
            turn.fail(f"{name} is {_made(array)}, expected {word}[{env.num_envs}]", "Return one for each lane")
    for lane in map(int, np.flatnonzero(~np.isfinite(turn.rewards))):
        turn.fail(f"the reward is {turn.rewards[lane]}", "Pay finite rewards", lane)


def _check_arrays(turn: _Turn, value: Any, space: spaces.Space[Any], name: str) -> None:
    """An observation of all lanes is built as its space says; `_check_returned` asks for the values, lane by lane."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.keys():
            given = list(value) if isinstance(value, dict) else type(value).__name__
            turn.fail(f"{name} has {given}, expected {list(space.keys())}", "Return a dict with the space's keys")
        for key, inner in space.items():
            _check_arrays(turn, value[key], inner, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space):
            turn.fail(f"{name} is {_show(value)}, expected a tuple of {len(space)}", "Return as many as the space has")
        for index, inner in enumerate(space):
            _check_arrays(turn, value[index], inner, f"{name}[{index}]")
    elif isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        wanted = f"{space.dtype}{list(space.shape)}"
        if _made(value) != wanted:
            turn.fail(f"{name} is {_made(value)}, expected {wanted}", "Return what the space says, or mend the space")


def _check_masks(env: AnyVectorEnv, turn: _Turn, wanted: bool) -> None:
    masks, space = turn.masks, env.single_action_space
    if masks is None and not wanted:
        return
    if not isinstance(space, spaces.Discrete):
        turn.fail(f"there are masks for the actions {space}", "This checker knows masks of Discrete actions only")
    shape = (env.num_envs, int(space.n))
    if not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.shape != shape:
        mend = "Give one bool for each action at every step, True = allowed"
        turn.fail(f"infos['{MASK}'] is {_made(masks)}, expected bool{list(shape)}", mend)
    for lane in map(int, np.flatnonzero(~masks.any(axis=1))):
        mend = "Allow at least one: sb3-contrib draws among all where none is, without an error"
        turn.fail("the mask forbids every action", mend, lane)


def _check_final(env: AnyVectorEnv, turn: _Turn) -> None:
    """What an ended lane showed last is in the infos, and nothing is there of the others."""
    for key in ("final_obs", "final_info"):
        flags = turn.infos.get(f"_{key}", np.zeros(env.num_envs, bool))
        if not isinstance(flags, np.ndarray) or flags.dtype != np.bool_ or flags.shape != (env.num_envs,):
            turn.fail(f"infos['_{key}'] is {_made(flags)}", f"Return bool[{env.num_envs}], True where a lane ended")
        for lane in map(int, np.flatnonzero(flags != turn.over)):
            what = f"ended but infos['_{key}'] is not True" if turn.over[lane] else f"goes on but has infos['{key}']"
            mend = (
                "With same-step autoreset the lanes that ended, and no others, have their last observation and info "
                "there; an environment that resets at the next step says so in metadata['autoreset_mode']"
            )
            turn.fail(f"the episode {what}", mend, lane)
    for lane in map(int, np.flatnonzero(turn.over)):
        final = turn.infos["final_obs"][lane]
        if final not in env.single_observation_space:
            mend = "Put the ended lane's last observation there"
            turn.fail(f"final_obs {_show(final)} is not in {env.single_observation_space}", mend, lane)


def _check_fresh(recent: Sequence[_Turn], turn: _Turn) -> None:
    """Nothing that was handed out before has changed, or is handed out again."""
    mend = "Return fresh arrays from every step: a learner that keeps them would train on others"
    for old in recent:
        now = old.now()
        for name, leaf in old.leaves.items():
            if name not in now or not _same(now[name], leaf):
                turn.fail(f"{name}, returned at step {old.step}, has changed since", mend)
    before = recent[-1].now() if recent else {}
    for name, leaf in turn.now().items():
        other = before.get(name)
        if isinstance(leaf, np.ndarray) and isinstance(other, np.ndarray) and np.shares_memory(leaf, other):
            turn.fail(f"{name} shares memory with that of the step before", mend)


@dataclass(frozen=True)
class _Singles:
    """The single environments that the lanes equal; none where that is not asked."""

    envs: list[AnyEnv]
    seed: int
    tolerance: float

    def follow(self, env: AnyVectorEnv, turn: _Turn) -> None:
        """Do in each single environment what was done in its lane, and compare."""
        rows = iterate(env.observation_space, turn.observation)
        actions = [None] * len(self.envs) if turn.step == 0 else iterate(env.action_space, turn.actions)
        for lane, (single, action, row) in enumerate(zip(self.envs, actions, rows, strict=False)):
            if turn.step == 0:
                observation, info = single.reset(seed=self.seed + lane)
                mend = "Seed lane i with seed + i, as a single environment is seeded"
            else:
                observation, *rest, info = single.step(action)
                mend = "Let a lane do what a single environment does"
                for name, wanted in zip(PARTS[1:4], rest, strict=True):
                    self._expect(turn, lane, name, getattr(turn, name)[lane], wanted, mend)
                if turn.over[lane]:
                    final = turn.infos["final_obs"][lane]
                    self._expect(turn, lane, "final_obs", final, observation, "Keep it from before the reset")
                    observation, info = single.reset()
                    mend = "Where a lane ended, return the next episode's first observation and infos"
            self._expect(turn, lane, "observation", row, observation, mend)
            if turn.masks is not None:
                self._expect(turn, lane, MASK, turn.masks[lane], info.get(MASK), mend)

    def _expect(self, turn: _Turn, lane: int, what: str, given: Any, wanted: Any, mend: str) -> None:
        leaves = dict(_leaves(given, what))
        for name, leaf in _leaves(wanted, what):
            if name not in leaves or not _same(leaves[name], leaf, self.tolerance):
                is_now, single = _show_apart(leaves.get(name), leaf)
                turn.fail(f"{name} is {is_now}, the single environment has {single}", mend, lane)


class _Resets:
    """Without single environments: an ended lane whose observation moves shows something new, at least sometimes."""

    def __init__(self, lanes: int) -> None:
        self.first: list[Leaves] = []
        self.ends, self.stuck = np.zeros(lanes, int), np.zeros(lanes, int)  # [N]
        self.moves = np.zeros(lanes, bool)  # [N]

    def count(self, env: AnyVectorEnv, turn: _Turn) -> None:
        """Take note of the lanes that ended, and whether they show what they showed last."""
        rows = [dict(_leaves(row, "")) for row in iterate(env.observation_space, turn.observation)]
        self.first = self.first or copy.deepcopy(rows)
        for lane, row in enumerate(rows):
            self.moves[lane] |= not _equal(row, self.first[lane])
            if turn.over[lane]:
                self.ends[lane] += 1
                self.stuck[lane] += _equal(row, dict(_leaves(turn.infos["final_obs"][lane], "")))

    def judge(self, steps: int) -> None:
        """Raise VectorEnvError if no episode ended, or a lane was never reset."""
        if not self.ends.any():
            _fail(f"no episode ended in {steps} steps", "Pass more steps: without an end half of this says nothing")
        # One end may be the place where the next episode begins; every one of several is not.
        for lane in np.flatnonzero(self.moves & (self.ends > 1) & (self.stuck == self.ends)):
            _fail(
                f"at all {self.ends[lane]} ends the observation returned was the final one",
                "Where a lane ended, return the next episode's first observation, the last one in infos['final_obs']",
                lane=int(lane),
            )


def _equal(a: Leaves, b: Leaves) -> bool:
    return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)


def _takes(env: AnyVectorEnv, seed: Any) -> bool:
    try:
        env.reset(seed=seed)
    except Exception:
        return False
    return True


def _check_repeats(
    env: AnyVectorEnv, seed: Any, played: list[Leaves], draws: int, tolerance: float, refuses: Errors | None = None
) -> None:
    """The seed, as written here, plays what was played; a refused action on the way changes nothing."""
    refused = False
    for turn, expected in zip(_play(env, seed, len(played) - 1, draws), played, strict=True):
        for name, leaf in expected.items():
            given = turn.leaves.get(name)
            if name.startswith(REPEATED) and not (name in turn.leaves and _same(given, leaf, tolerance)):
                is_now, was = _show_apart(given, leaf)
                after = "after a refused action" if refused else f"with the seed {type(seed).__name__} {seed}"
                mend = "Refuse before anything changes" if refused else "Let a seed decide everything, however written"
                lane = _first_other(given, leaf, tolerance) if name.startswith(BATCHED) else None
                turn.fail(f"{name} is {is_now} {after}, but was {was} with the seed int {draws}", mend, lane)
        if refuses is not None and turn.masks is not None and not refused:
            refused = _check_refuses(env, turn, refuses)


def _first_other(a: Any, b: Any, tolerance: float) -> int | None:
    """The first lane in which two arrays ``[N, ...]`` differ; None if they are no such arrays."""
    if np.shape(a) != np.shape(b) or not np.shape(a):
        return None
    return next(lane for lane in range(len(a)) if not _same(a[lane], b[lane], tolerance))


def _check_refuses(env: AnyVectorEnv, turn: _Turn, refuses: Errors) -> bool:
    """Try a forbidden action; False if there is none now."""
    lanes, forbidden = np.nonzero(~turn.masks)
    if not len(lanes):
        return False
    lane, first = int(lanes[0]), env.single_action_space.start  # type: ignore[attr-defined]
    actions = (first + turn.masks.argmax(axis=1)).astype(env.action_space.dtype)  # [N]
    actions[lane] = first + forbidden[0]
    if not _raises(env, actions, refuses):
        turn.fail(f"step() then took action {actions[lane]}, which the mask forbids", f"Let it raise {refuses}", lane)
    return True


def _raises(env: AnyVectorEnv, actions: Any, errors: Errors) -> bool:
    try:
        env.step(actions)
    except errors:
        return True
    return False
