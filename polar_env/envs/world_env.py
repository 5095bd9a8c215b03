"""Environments over the programs of a recorded world: the field's benchmark, without an LLM.

The same environment runs on the live LLM: it then executes what a recorded one looks up.

Letters: ``N`` lanes, ``A`` actions, ``D`` the model's depth, ``K`` components of a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from polar_env.envs.masked_discrete import MaskedDiscrete
from polar_env.envs.observer import Observation
from polar_env.envs.rendering import RENDERING, outcome, rendered
from polar_env.envs.tree import ProgramTree, menu_tree, segments_tree
from polar_env.errors import ConfigError, EpisodeError, ForbiddenActionError, UnknownNameError
from polar_env.program import MAX_BLOCK
from polar_env.worlds import RecordedWorld, ReducedAsks, open_world

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld

__all__ = ["FORMS", "WorldEnv", "WorldVectorEnv"]

FORMS = ("menu", "segments")
"""Choose a whole program at once, or skip, keep and repeat layers from left to right."""
_DRAWN = 256
"""Questions that a lane draws at once."""
Lanes = NDArray[np.intp]


class _Source(Protocol):
    """Gives states and verdicts of questions, by their rows in the recorded world."""

    def states(self, rows: Lanes, seen: Lanes) -> NDArray[np.float32]:
        """Reduced states ``[N, 2 K]``."""

    def right(self, rows: Lanes, programs: Lanes) -> NDArray[np.bool_]:
        """Verdicts ``[N]``."""


class _Table:
    """Looks up."""

    def __init__(self, world: RecordedWorld) -> None:
        self.codes = world.arrays["codes"].astype(np.float32)
        self.verdicts = world.arrays["right"]

    def states(self, rows: Lanes, seen: Lanes) -> NDArray[np.float32]:
        observed: NDArray[np.float32] = self.codes[rows, seen]
        return observed

    def right(self, rows: Lanes, programs: Lanes) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = self.verdicts[rows, programs]
        return right


class _Execution:
    """Executes."""

    def __init__(self, world: RecordedWorld, live: LiveWorld) -> None:
        world.require(live)
        self.world, self.live, self.asks = world, live, ReducedAsks(live.asks, world.reduction)

    def states(self, rows: Lanes, seen: Lanes) -> NDArray[np.float32]:
        identity, depths = self.world.identity.layers, self.world.card.depths
        questions = self.world.questions
        return self.asks.observations(
            [(questions[row].ask, identity[: depths[at]]) for row, at in zip(rows, seen, strict=True)]
        )

    def right(self, rows: Lanes, programs: Lanes) -> NDArray[np.bool_]:
        pairs = [
            (self.world.questions[row], self.world.programs[program])
            for row, program in zip(rows, programs, strict=True)
        ]
        return np.array([verdict.right for verdict in self.live.verdicts(pairs)], bool)


class _Rules:
    """What both environments share: the tree, the questions, what is seen and what is paid."""

    def __init__(
        self,
        world: str | RecordedWorld,
        form: str,
        split: str | None,
        task: str | None,
        look: int,
        layer_cost: float,
        live: LiveWorld | None,
        shuffled: bool,
    ) -> None:
        self.world = world if isinstance(world, RecordedWorld) else open_world(world)
        if shuffled and live is not None:
            raise ConfigError("a live world shows each question's own states; leave out live, or shuffled.")
        if shuffled:
            self.world = self.world.shuffled()
        if form not in FORMS:
            raise UnknownNameError("form", form, FORMS)
        if task is not None and task not in self.world.tasks:
            raise UnknownNameError("task", task, sorted(set(self.world.tasks.tolist())))
        if layer_cost < 0:
            raise ConfigError(f"layer_cost is {layer_cost}; it is the price of D layers and at least 0.")
        depth = self.world.depth
        self.tree = _tree(self.world, form, look)
        rows = np.arange(len(self.world.questions)) if split is None else self.world.rows(split)
        self.rows: Lanes = rows if task is None else rows[self.world.tasks[rows] == task]
        if not len(self.rows):
            raise ConfigError(f"'{self.world.card.name}' has no questions of split {split} and task {task}.")
        self.source: _Source = _Table(self.world) if live is None else _Execution(self.world, live)
        self.layer_cost, self.depth = layer_cost, depth
        self.programs = np.array([str(program) for program in self.world.programs])
        self.ids = np.array([question.id for question in self.world.questions])
        observed = self.world.observed
        self.observation_space = spaces.Dict(
            {
                "hidden": spaces.Box(-observed.bound, observed.bound, (observed.size,), np.float32),
                "program": spaces.Box(0.0, float(self.tree.executions.max()), (depth,), np.float32),
                "cursor": spaces.Box(0.0, 1.0, (1,), np.float32),
                "budget": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )
        self._executions = self.tree.executions.astype(np.float32)
        self._cursor = (self.tree.cursor / depth).astype(np.float32)[:, None]
        self._budget = (1.0 - self.tree.layers / self.tree.most_layers).astype(np.float32)[:, None]
        self._masks = self.tree.child >= 0
        self._masks[self.tree.program >= 0] = True  # an episode that is over allows everything, as it pays for nothing

    def observe(self, rows: Lanes, nodes: Lanes) -> Observation:
        """Observations of ``N`` lanes, freshly made."""
        return {
            "hidden": self.source.states(rows, self.tree.seen[nodes]),
            "program": self._executions[nodes],
            "cursor": self._cursor[nodes],
            "budget": self._budget[nodes],
        }

    def masks(self, nodes: Lanes) -> NDArray[np.bool_]:
        """Allowed actions, ``bool [N, A]``, freshly made."""
        return self._masks[nodes]

    def move(self, nodes: Lanes, actions: Lanes) -> Lanes:
        """The nodes behind actions.

        Raises:
            ForbiddenActionError: for an action that the mask forbids; names the lane.
        """
        exist = (actions >= 0) & (actions < self.tree.n_actions)
        after = self.tree.child[nodes, np.where(exist, actions, 0)]
        bad = np.flatnonzero(~exist | (after < 0))
        if len(bad):
            lane = int(bad[0])
            raise ForbiddenActionError(
                f"lane {lane}: action {actions[lane]} is forbidden; choose among info['action_mask'] (True = allowed)."
            )
        return after.astype(np.intp)

    def rewards(self, rows: Lanes, before: Lanes, after: Lanes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """What actions pay, and which answers of finished programs are right, ``[N]`` each."""
        # The layers that run before a choice are paid with the first action.
        paid = self.tree.layers[after] - np.where(before == 0, 0, self.tree.layers[before])
        over = self.tree.program[after] >= 0
        right = np.zeros(len(rows), bool)
        right[over] = self.source.right(rows[over], self.tree.program[after[over]])
        return right - self.layer_cost * paid / self.depth, right

    def infos(self, rows: Lanes, nodes: Lanes, right: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """What the infos of finished episodes hold, ``[N]`` each."""
        return {
            "program": self.programs[self.tree.program[nodes]],
            "right": right,
            "layers": self.tree.layers[nodes],
            "cost": self.tree.layers[nodes] / self.depth,
            "question": self.ids[rows],
        }

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Rows of the next questions of a lane."""
        rows: list[int] = self.rows[rng.integers(len(self.rows), size=_DRAWN)].tolist()
        return rows


def _tree(world: RecordedWorld, form: str, look: int) -> ProgramTree:
    if form == "menu":
        return menu_tree(world.programs, world.depth, world.card.depths, look)
    return segments_tree(world.programs, world.depth, world.card.depths)


class WorldEnv(gym.Env[Observation, np.int64]):
    """Choose one of the programs that a recorded world holds, for each question.

    ## Description
    One episode is one question of the world. No LLM runs: states and verdicts are looked up. With ``live=`` a live
    world they are executed, and the same agent plays the same episodes.

    ## Action Space
    ``form="menu"``: ``Discrete(P)``, action ``a`` executes program ``a`` and the episode is over, a contextual bandit.
    ``form="segments"``: ``Discrete(12)``: at the cursor skip, keep or repeat 1 to 4 layers, action ``4 * operation +
    length - 1``; allowed is what leads to a recorded program. ``info["action_mask"]`` and `action_masks`, True =
    allowed.

    ## Observation Space
    ``Dict`` of float32 boxes: ``hidden [2 K]``, the components of the last prompt token's state and of the mean over
    the question's tokens; ``program [D]``, executions per layer; ``cursor [1]``; ``budget [1]``. States are those of
    the identity's layers: after the program departs from it, the last one before stays in sight.

    ## Rewards
    1 for a right answer at the end, minus ``layer_cost * n / D`` for every ``n`` layers. In the menu, layers that ran
    before the choice and that the program cannot use are paid, too.

    ## Starting State
    A question of the split, drawn uniformly, or ``reset(options={"question": row})``.

    ## Episode End
    Terminates when the program is complete; never truncates. The last info holds ``program``, ``right``, ``layers``,
    ``cost``, ``question``.

    ## Arguments
    ``world`` (a name in `polar_env.worlds.WORLDS`, a folder, or a `RecordedWorld`), ``form``, ``split`` (train,
    validation, test, several as ``train+validation``, or None for all), ``task`` (one task's questions alone), ``look``
    (layers that run before a choice from the menu), ``layer_cost``, ``live``, ``shuffled`` (states shuffled among
    questions: reading cannot help). ``render_mode`` is ``"ansi"`` or ``"rgb_array"``.

    ## Version History
    v0: first version.
    """

    metadata = RENDERING

    def __init__(
        self,
        world: str | RecordedWorld = "skills-smollm2-135m-v0",
        form: Literal["menu", "segments"] = "menu",
        split: str | None = "train",
        task: str | None = None,
        look: int = 4,
        layer_cost: float = 0.1,
        live: LiveWorld | None = None,
        shuffled: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.rules = _Rules(world, form, split, task, look, layer_cost, live, shuffled)
        self.observation_space = self.rules.observation_space  # type: ignore[assignment]
        self.action_space = MaskedDiscrete(
            self.rules.tree.n_actions,
            lambda: None if self._nodes[0] < 0 else self.action_masks(),
            self.rules.masks(np.zeros(1, np.intp))[0],
        )
        self.render_mode = render_mode
        self._upcoming: list[int] = []
        self._executed: tuple[int, ...] = ()
        self._right: bool | None = None
        self._rows, self._nodes = np.zeros(1, np.intp), np.full(1, -1, np.intp)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see Starting State."""
        super().reset(seed=seed)
        if seed is not None:
            self._upcoming = []
        row = (options or {}).get("question")
        if row is None:
            self._upcoming = self._upcoming or self.rules.draw(self.np_random)
            row = self._upcoming.pop(0)
        if not 0 <= row < len(self.rules.ids):
            raise ConfigError(f"question {row} does not exist; the world has {len(self.rules.ids)}, numbered from 0.")
        self._rows, self._nodes, self._right = np.array([row]), np.zeros(1, np.intp), None
        self._executed = self.rules.world.identity.layers[: self.rules.tree.cursor[0]]
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            EpisodeError: if the episode is over or was never started.
            ForbiddenActionError: if the mask forbids the action.
        """
        if self._nodes[0] < 0 or self.rules.tree.program[self._nodes[0]] >= 0:
            raise EpisodeError("this episode is over, or none was started; call reset() first.")
        after = self.rules.move(self._nodes, np.array([int(action)]))
        (reward,), right = self.rules.rewards(self._rows, self._nodes, after)
        tree, before = self.rules.tree, int(self._nodes[0])
        self._nodes = after
        over = bool(tree.program[after[0]] >= 0)
        if over:
            self._executed, self._right = self.rules.world.programs[tree.program[after[0]]].layers, bool(right[0])
        else:  # only segments go on: skip, keep or repeat a block
            block = tuple(range(tree.cursor[before], tree.cursor[after[0]]))
            self._executed += block * (int(action) // MAX_BLOCK)
        info = self._info()
        if over:
            info |= {name: each[0] for name, each in self.rules.infos(self._rows, after, right).items()}
        return self._observation(), float(reward), over, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, ``bool [A]``, True = allowed (the name that sb3-contrib asks for)."""
        if self._nodes[0] < 0:
            raise EpisodeError("there is no episode yet; call reset() first.")
        mask: NDArray[np.bool_] = self.rules.masks(self._nodes)[0]
        return mask

    def render(self) -> str | NDArray[np.uint8] | None:
        """The layers so far: text, or a picture ``uint8 [height, width, 3]``."""
        if self._nodes[0] < 0:
            raise EpisodeError("there is no episode yet; call reset() first.")
        question = self.rules.world.questions[self._rows[0]]
        came_out = outcome(self._right, question.answer)
        return rendered(self.render_mode, question.text, self._executed, self.rules.depth, came_out)

    def _observation(self) -> Observation:
        return {name: values[0] for name, values in self.rules.observe(self._rows, self._nodes).items()}

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks()}


class WorldVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """``num_envs`` lanes of `WorldEnv`, moved by arrays; a lane that ends starts anew in the same step.

    Args:
        num_envs: number of lanes ``N``; lane ``i`` seeded with ``seed + i`` plays the episodes of a `WorldEnv` with
            that seed.
        world: see `WorldEnv`, as all other arguments.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012
    autoreset_mode = AutoresetMode.SAME_STEP

    def __init__(
        self,
        num_envs: int = 1,
        world: str | RecordedWorld = "skills-smollm2-135m-v0",
        form: Literal["menu", "segments"] = "menu",
        split: str | None = "train",
        task: str | None = None,
        look: int = 4,
        layer_cost: float = 0.1,
        live: LiveWorld | None = None,
        shuffled: bool = False,
        render_mode: None = None,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}; it counts lanes and is at least 1.")
        self.rules = _Rules(world, form, split, task, look, layer_cost, live, shuffled)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self.rules.observation_space
        self.single_action_space = spaces.Discrete(self.rules.tree.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self._upcoming: list[list[int]] = [[] for _ in range(num_envs)]
        self._rows, self._nodes = np.zeros(num_envs, np.intp), np.full(num_envs, -1, np.intp)
        self._all = np.ones(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every lane; an int gives lane ``i`` the seed ``seed + i``. There are no options.

        Raises:
            ConfigError: for a number of seeds that is not the number of lanes.
        """
        if options:
            raise ConfigError(f"reset() was given the options {sorted(options)}; a vector of lanes takes none.")
        seeds = [seed + lane for lane in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if seeds is not None:
            if len(seeds) != self.num_envs:
                raise ConfigError(f"reset() was given {len(seeds)} seeds for {self.num_envs} lanes; one for each.")
            for lane, each in enumerate(seeds):
                if each is not None:
                    self.generators[lane] = np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(each))))
                    self._upcoming[lane] = []
        self._rows, self._nodes = self._drawn(self._all), np.zeros(self.num_envs, np.intp)
        return self.rules.observe(self._rows, self._nodes), self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One action in each lane, ``[N]``; see `WorldEnv`. ``final_obs`` and ``final_info`` are of lanes that ended.

        Raises:
            EpisodeError: before the first reset.
            ConfigError: unless there is one integer for each lane.
            ForbiddenActionError: for an action that its lane's mask forbids; no lane has moved then.
        """
        if self._nodes[0] < 0:
            raise EpisodeError("there is no episode yet; call reset() first.")
        given = np.asarray(actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu":
            raise ConfigError(
                f"step() was given actions of shape {given.shape} and type {given.dtype}; pass one integer for each "
                f"lane, shape ({self.num_envs},)."
            )
        after = self.rules.move(self._nodes, given)
        rewards, right = self.rules.rewards(self._rows, self._nodes, after)
        over = self.rules.tree.program[after] >= 0
        rows, self._nodes = self._rows, np.where(over, 0, after)
        final = {}
        if over.any():
            final = self._final(rows, after, right, over)
            self._rows = self._drawn(over)
        infos = self._infos() | final
        return self.rules.observe(self._rows, self._nodes), rewards, over, np.zeros(self.num_envs, bool), infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions of every lane, ``bool [N, A]``, True = allowed."""
        return self.rules.masks(self._nodes)

    def _drawn(self, lanes: NDArray[np.bool_]) -> Lanes:
        """The rows in play, with the next question in some lanes."""
        rows = self._rows.copy()
        for lane in np.flatnonzero(lanes).tolist():
            upcoming = self._upcoming[lane]
            if not upcoming:
                upcoming = self._upcoming[lane] = self.rules.draw(self.generators[lane])
            rows[lane] = upcoming.pop(0)
        return rows

    def _infos(self) -> dict[str, Any]:
        return {"action_mask": self.rules.masks(self._nodes), "_action_mask": self._all.copy()}

    def _final(self, rows: Lanes, nodes: Lanes, right: NDArray[np.bool_], over: NDArray[np.bool_]) -> dict[str, Any]:
        """The last observations and infos of the lanes that are over."""
        lanes = np.flatnonzero(over)
        batch = self.rules.observe(rows[lanes], nodes[lanes])
        observations = np.full(self.num_envs, None, dtype=object)
        for at, lane in enumerate(lanes.tolist()):
            observations[lane] = {name: values[at] for name, values in batch.items()}
        info: dict[str, Any] = {"action_mask": self.rules.masks(nodes), "_action_mask": over.copy()}
        for name, values in self.rules.infos(rows, nodes, right).items():
            info |= {name: values, f"_{name}": over.copy()}
        return {"final_obs": observations, "_final_obs": over.copy(), "final_info": info, "_final_info": over.copy()}
