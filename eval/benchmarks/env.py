"""``polar bench env``: environment steps a second of 64 lanes beside one environment, and the policy's own share.

What is played: programs of a menu, as a trained policy plays them, on questions drawn from all train questions, so
that most of them are new. The environment with caches and the lanes remember what they have executed; the one without
forgets it before every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from agents.fixed import RandomAgent
from agents.policy.agent import PolicyAgent
from agents.policy.network import NETWORK
from eval.benchmarks.figures import Figures
from eval.benchmarks.roofline import Roofline
from polar_env.envs import ProgramVectorEnv
from polar_env.envs.observer import Observation
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Runner
from polar_env.runtime import torch_threads
from polar_env.worlds import LiveWorld

__all__ = ["EnvBenchmark", "measure_env"]

LANES = 64
_MENU = 16
_ROUNDS = 3
_STEPS, _BATCH_SIZE, _EPOCHS = 64, 1024, 4
"""What `polar train` does by default."""
_ANSWERS = 8


@dataclass(frozen=True)
class EnvBenchmark(Figures):
    """What environment steps cost.

    Attributes:
        lanes64_speedup: steps a second of 64 lanes over those of one environment without caches.
        lanes64_speedup_cached: the same over one environment with caches, both on mostly new questions.
        lanes64_speedup_remembered: the same where every state and verdict is remembered, so that no layer runs at all.
        steps_per_second: of 64 lanes on mostly new questions.
        roofline_share: time of the matrix products of the layers that these lanes ran, over the time taken.
        steps_per_second_remembered: of 64 lanes where everything is remembered.
        policy_share: share of PPO's time, rollout and update, that is not spent in the environment; on new questions.
        policy_share_of_answer: share of the time of one answer, choosing its program and generating, that the policy's
            network takes.
    """

    lanes64_speedup: float
    lanes64_speedup_cached: float
    lanes64_speedup_remembered: float
    steps_per_second: float
    roofline_share: float
    steps_per_second_remembered: float
    policy_share: float
    policy_share_of_answer: float


class _MenuPlayer:
    """Plays programs of a menu, a random one in each episode, in any number of lanes.

    The first program of each lane is cut short somewhere and played at once: lanes in step would end their episodes
    together, and whether that falls into the time that is measured would decide the rate.

    Args:
        world: executes; shared by nobody else, so that what it remembers is what was played here.
        questions: the questions of the episodes.
        lanes: how many.
    """

    def __init__(self, world: LiveWorld, questions: Sequence[Question], lanes: int) -> None:
        self.world = world
        self.env = ProgramVectorEnv(lanes, world, questions)
        self.rng = np.random.default_rng(0)
        self.programs = RandomAgent(world.depth, pool=_MENU).pool
        self.menu = [self.env.rules.language.encode(program) for program in self.programs]
        self.plans = [self._cut_short(self.plan()) for _ in range(lanes)]
        self.env.reset(seed=0)
        for _ in range(max(map(len, self.plans))):
            self.env.step(self.actions())

    def plan(self) -> list[int]:
        """The actions of a random program, last first."""
        return list(reversed(self.menu[self.rng.integers(len(self.menu))]))

    def _cut_short(self, plan: list[int]) -> list[int]:
        """A random number of a plan's first actions, and the stop, last first."""
        stop, kept = plan[0], self.rng.integers(1, len(plan))
        return [stop, *plan[-kept:]]

    def actions(self) -> NDArray[np.int64]:
        """The next action in each lane."""
        for lane, plan in enumerate(self.plans):
            if not plan:
                self.plans[lane] = self.plan()
        return np.array([plan.pop() for plan in self.plans])

    def play(self, seconds: float, forget: bool = False) -> tuple[int, float]:
        """Play for about so many seconds; returns the steps of all lanes, and the seconds that they took."""
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            if forget:
                self.world.runner.clear()
            self.env.step(self.actions())
            steps += self.env.num_envs
        return steps, time.perf_counter() - started


def measure_env(
    world: LiveWorld, questions: Sequence[Question], seconds: float, note: Callable[[str], None] = lambda _: None
) -> EnvBenchmark:
    """Measure everything.

    Args:
        world: gives the LLM, the prompt and the memory bound.
        questions: many, so that new ones do not run out while it is measured.
        seconds: about how long each rate is measured.
        note: told what has been measured.
    """
    world.runner.clear()
    steps, roofline_share = _rates_on_new_questions(world, questions, seconds)
    note("; ".join(f"{name}: {rate:.0f} steps/s" for name, rate in steps.items()))
    remembered = {
        lanes: _rate_where_all_is_remembered(_fresh(world, questions, 1 / 2), questions[:8], lanes, seconds)
        for lanes in (1, LANES)
    }
    note(f"everything remembered: one environment {remembered[1]:.0f} steps/s, {LANES} lanes {remembered[LANES]:.0f}")
    share, of_answer = _policy_shares(_fresh(world, questions, 1 / 2), questions)
    note(f"the policy takes {share:.1%} of PPO's time and {of_answer:.2%} of an answer's")
    return EnvBenchmark(
        lanes64_speedup=steps["lanes"] / steps["without caches"],
        lanes64_speedup_cached=steps["lanes"] / steps["with caches"],
        lanes64_speedup_remembered=remembered[LANES] / remembered[1],
        steps_per_second=steps["lanes"],
        roofline_share=roofline_share,
        steps_per_second_remembered=remembered[LANES],
        policy_share=share,
        policy_share_of_answer=of_answer,
    )


def _fresh(world: LiveWorld, questions: Sequence[Question], memory_share: float) -> LiveWorld:
    """A world that has executed nothing, with a share of the other's memory bound."""
    runner = Runner(world.llm, int(world.runner.memory_bytes * memory_share), threads=world.runner.threads)
    fresh = LiveWorld(runner, world.prompts)
    fresh.check(questions)
    return fresh


def _rates_on_new_questions(
    world: LiveWorld, questions: Sequence[Question], seconds: float
) -> tuple[dict[str, float], float]:
    """Steps a second of one environment without and with caches and of the lanes; and the lanes' roofline share."""
    players = {
        "without caches": (_MenuPlayer(_fresh(world, questions, 1 / 8), questions, 1), True),
        "with caches": (_MenuPlayer(_fresh(world, questions, 1 / 4), questions, 1), False),
        # The most memory for those that have so many questions in flight at once.
        "lanes": (_MenuPlayer(_fresh(world, questions, 5 / 8), questions, LANES), False),
    }
    for name in ("with caches", "lanes"):
        _remember(players[name][0].world, players[name][0].programs, questions[:1])  # the menu's keys and values
    steps, taken = dict.fromkeys(players, 0), dict.fromkeys(players, 0.0)
    lanes, roofline, products = players["lanes"][0].world, Roofline(world.llm), 0.0
    for _ in range(_ROUNDS):
        for name, (player, forget) in players.items():
            # Lanes begin their questions together, for seconds at a time: a round must hold several such times.
            before, length = lanes.stats.copy(), seconds if player.world is lanes else seconds / _ROUNDS
            played, took = player.play(length, forget)
            steps[name] += played
            taken[name] += took
            if player.world is lanes:
                calls = lanes.stats.since(before).calls
                roofline.measure(calls)
                products += took * roofline.share(calls, took)
    return {name: steps[name] / taken[name] for name in players}, products / taken["lanes"]


def _remember(world: LiveWorld, menu: Sequence[Program], questions: Sequence[Question]) -> None:
    """Execute all programs of a menu on some questions, and observe every state on their way."""
    identity = world.identity
    world.verdicts([(question, program) for question in questions for program in [identity, *menu]])
    states = [program.layers[:length] for program in menu for length in range(len(program) + 1)]
    world.observations([(question.ask, state) for question in questions for state in states])


def _rate_where_all_is_remembered(world: LiveWorld, questions: Sequence[Question], lanes: int, seconds: float) -> float:
    player = _MenuPlayer(world, questions, lanes)
    _remember(world, player.programs, questions)
    executed = world.stats.executed_layers
    steps, took = player.play(seconds / _ROUNDS)
    assert world.stats.executed_layers == executed, "something was executed, so not all was remembered"
    return steps / took


class _TimedVecEnv(ProgramVecEnv):
    """Plays a menu whatever the policy says, and counts the environment's seconds."""

    def __init__(self, player: _MenuPlayer) -> None:
        self.player, self.seconds = player, 0.0
        super().__init__(player.env)

    def reset(self) -> VecEnvObs:
        """Start episodes and their plans."""
        self.player.plans = [self.player.plan() for _ in self.player.plans]
        return super().reset()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the menu's actions instead."""
        super().step_async(self.player.actions())

    def step_wait(self) -> VecEnvStepReturn:
        """Step, timed."""
        started = time.perf_counter()
        try:
            return super().step_wait()
        finally:
            self.seconds += time.perf_counter() - started


class _TimedAgent(PolicyAgent):
    """Counts the seconds of the policy's network."""

    seconds = 0.0

    def logits(self, observation: Observation, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Logits, timed."""
        started = time.perf_counter()
        try:
            return super().logits(observation, masks)
        finally:
            self.seconds += time.perf_counter() - started


def _policy_shares(world: LiveWorld, questions: Sequence[Question]) -> tuple[float, float]:
    """The policy's share of PPO's time, and of the time of one answer; the policy is new, its size is that of all."""
    from sb3_contrib import MaskablePPO

    player = _MenuPlayer(world, questions, LANES)
    _remember(world, player.programs, questions[:1])
    env = _TimedVecEnv(player)
    model = MaskablePPO(
        "MultiInputPolicy", env, n_steps=_STEPS, batch_size=_BATCH_SIZE, n_epochs=_EPOCHS, gamma=1.0,
        policy_kwargs=NETWORK, seed=0, device="cpu",
    )  # fmt: skip
    with torch_threads(1):
        started = time.perf_counter()
        model.learn(2 * _STEPS * LANES)
        total = time.perf_counter() - started
    agent = _TimedAgent(model.policy, player.env.rules.observer)
    started = time.perf_counter()
    for question in questions[:_ANSWERS]:
        world.runner.clear()
        world.generate([question.ask], agent.decide([question.ask])[0].program)
    return 1 - env.seconds / total, agent.seconds / (time.perf_counter() - started)
