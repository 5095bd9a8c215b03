"""Reference learners on a recorded world: each chooses a program for every question, and all are scored alike.

They see train and validation questions; hyperparameters were not tuned on test questions. Written as plainly as the
libraries allow, for others to beat.

Letters: ``Q`` questions, ``P`` programs, ``M`` programs of a menu, ``X`` features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from torch import nn

from agents.perceptron import Perceptron
from agents.value import ValueModel, ranked
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.envs.world_env import WorldVectorEnv
from polar_env.errors import NonFiniteError
from polar_env.tracking import tracker
from polar_env.worlds import RecordedWorld
from train.config import ValueConfig
from train.standards import standards_of
from train.static import static_of_world
from train.text_features import TextFeatures
from train.value import choose_menu, menu_costs, targets_of

__all__ = [
    "LEARNERS",
    "READ_NO_STATE",
    "Learner",
    "Task",
    "bandit",
    "by_scores",
    "executed_costs",
    "group_relative",
    "learn",
]

Rows = NDArray[np.intp]
Policy = Callable[[Rows], Rows]
"""From rows of questions to the programs chosen for them, columns of the world."""


@dataclass(frozen=True)
class Task:
    """What a learner is given.

    Attributes:
        world: the world.
        split: questions to learn from.
        config: look, menu, price and targets, the same for all learners.
        steps: verdicts that learners by trial may ask for.
    """

    world: RecordedWorld
    split: str
    config: ValueConfig
    steps: int

    @cached_property
    def rows(self) -> Rows:
        """Rows of the questions to learn from."""
        return self.world.rows(self.split)

    def features(self, rows: Rows) -> NDArray[np.float32]:
        """The observed states of questions, ``[Q, X]``, centred and scaled by those of the learner's questions."""
        at = self.world.card.depths.index(self.config.look)
        codes = self.world.arrays["codes"][rows, at].astype(np.float32)
        centre, scale = self.standards
        scaled: NDArray[np.float32] = (codes - centre) / scale
        return scaled

    @cached_property
    def standards(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Centre ``[X]`` and scale ``[1]`` of the states of the learner's questions; see `standards_of`."""
        at = self.world.card.depths.index(self.config.look)
        return standards_of(self.world.arrays["codes"][self.rows, at].astype(np.float32))

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Verdict minus price of every program on the learner's questions, ``[Q, P]``."""
        costs = menu_costs(self.world, self.config.look)
        return np.asarray(self.world.arrays["right"][self.rows] - self.config.price * costs)

    def menu(self) -> list[int]:
        """The programs that learners with few outputs choose among; see `choose_menu`."""
        targets, costs = targets_of(self.world, self.rows, self.config), menu_costs(self.world, self.config.look)
        return choose_menu(targets, costs, self.config.menu, self.config.menu_price)


Learner = Callable[[Task, int], Policy]
"""Learns with a seed."""


def executed_costs(task: Task, chosen: Rows, *, reads: bool) -> NDArray[np.float64]:
    """Executed layers / D of each choice; whoever reads a state pays for layers that ran in vain."""
    return (menu_costs(task.world, task.config.look) if reads else task.world.costs)[chosen]


def _random(task: Task, seed: int) -> Policy:
    rng = np.random.default_rng(seed)
    return lambda rows: rng.integers(len(task.world.programs), size=len(rows))


def _best_static(task: Task, seed: int) -> Policy:
    column = task.world.column(static_of_world(task.world).program)
    return lambda rows: np.full(len(rows), column)


def _best_static_per_task(task: Task, seed: int) -> Policy:
    world, choice = task.world, static_of_world(task.world)
    return lambda rows: np.array([world.column(choice.by_task.get(str(t), choice.program)) for t in world.tasks[rows]])


def _oracle(task: Task, seed: int) -> Policy:
    """The cheapest right program: it sees the verdicts."""
    order = np.argsort(task.world.costs, kind="stable")
    return lambda rows: order[task.world.arrays["right"][rows][:, order].argmax(1)]


def _by_value(task: Task, menu: list[int], predict: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Policy:
    costs = menu_costs(task.world, task.config.look)[menu]
    return lambda rows: np.array(menu)[(predict(task.features(rows)) - task.config.price * costs).argmax(1)]


def _linear_value(task: Task, seed: int) -> Policy:
    """Ridge regression from the state to every program of the menu."""
    menu, x = task.menu(), task.features(task.rows)
    y = targets_of(task.world, task.rows, task.config)[:, menu]
    means, penalty = y.mean(0), 0.1 * len(x)
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - means))
    return _by_value(task, menu, lambda features: features @ weights + means)


def _kernel_value(task: Task, seed: int) -> Policy:
    """What `polar train --world` trains."""
    menu = task.menu()
    y = targets_of(task.world, task.rows, task.config)[:, menu]
    model = ValueModel.fit(task.features(task.rows), y, ridge=task.config.ridge, scale=task.config.scale)
    costs = menu_costs(task.world, task.config.look)[menu]

    def policy(rows: Rows) -> Rows:
        read = task.features(rows)
        orders = ranked(model.predict(read), model.doubt(read), costs, task.config.price, task.config.most_doubt)
        chosen: Rows = np.array(menu)[orders[:, 0]]
        return chosen

    return policy


def _text_value(task: Task, seed: int) -> Policy:
    """The same regression from the question's text alone, over all programs; no layer runs before the choice."""
    task.world.require_texts("read them")
    asks = [question.ask for question in task.world.questions]
    read = TextFeatures([asks[row] for row in task.rows])
    targets = targets_of(task.world, task.rows, task.config)
    observations = read([asks[row] for row in task.rows])
    model = ValueModel.fit(observations, targets, ridge=task.config.ridge, scale=task.config.scale)
    price = task.config.price * task.world.costs

    def policy(rows: Rows) -> Rows:
        chosen: Rows = (model.predict(read([asks[row] for row in rows])) - price).argmax(1)
        return chosen

    return policy


def _boosted_value(task: Task, seed: int) -> Policy:
    """Gradient-boosted trees, one ensemble for each program of the menu."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    menu, x = task.menu(), task.features(task.rows)
    y = targets_of(task.world, task.rows, task.config)[:, menu]
    models = [
        HistGradientBoostingRegressor(max_iter=60, learning_rate=0.05, max_leaf_nodes=8, random_state=seed).fit(x, each)
        for each in y.T
    ]
    return _by_value(task, menu, lambda features: np.stack([model.predict(features) for model in models], axis=1))


def by_scores(task: Task, perceptron: Perceptron) -> Policy:
    """The best of the menu by scores that are read from `Task.features`."""
    menu = np.array(task.menu())
    return lambda rows: menu[perceptron.scores(task.features(rows)).argmax(1)]


def bandit(task: Task, seed: int, *, thompson: bool) -> Perceptron:
    """A linear bandit over the menu: LinUCB (Li et al. 2010), or linear Thompson sampling (Agrawal and Goyal 2013).

    Returns:
        The expected reward of each program of the menu, from `Task.features`.
    """
    rng, menu = np.random.default_rng(seed), task.menu()
    x = np.hstack([task.features(task.rows), np.ones((len(task.rows), 1), np.float32)]).astype(float)
    rewards, size, width = task.rewards[:, menu], x.shape[1], 0.3
    inverse = np.repeat(np.eye(size)[None], len(menu), axis=0)  # [M, X, X]
    total, mean = np.zeros((len(menu), size)), np.zeros((len(menu), size))
    # What each program is expected to pay on each question, and its variance, [M, Q]: only the tried one's changes.
    expected, variance = np.zeros((len(menu), len(x))), np.repeat((x**2).sum(1)[None], len(menu), axis=0)
    before, earned = tracker().last_step, 0.0
    for step, row in enumerate(rng.integers(len(x), size=task.steps), 1):
        spread = width * np.sqrt(np.maximum(variance[:, row], 0.0))  # [M]
        bonus = spread * rng.standard_normal(len(menu)) if thompson else spread
        arm = int((expected[:, row] + bonus).argmax())
        u = inverse[arm] @ x[row]
        shrink = 1.0 + x[row] @ u
        inverse[arm] -= np.outer(u, u) / shrink  # Sherman-Morrison
        variance[arm] -= (x @ u) ** 2 / shrink
        total[arm] += rewards[row, arm] * x[row]
        mean[arm] = inverse[arm] @ total[arm]
        expected[arm] = x @ mean[arm]
        earned += rewards[row, arm]
        if step % 1_000 == 0:
            tracker().log({"rollout/reward": earned / 1_000}, before + step)
            earned = 0.0
    return Perceptron(((mean[:, :-1].T.astype(np.float32), mean[:, -1].astype(np.float32)),))


def _network(task: Task, seed: int, loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Perceptron:
    """A small network over the menu; ``loss_of`` takes logits ``[B, M]`` and rewards ``[B, M]``."""
    torch.manual_seed(seed)
    menu = task.menu()
    x, rewards = torch.tensor(task.features(task.rows)), torch.tensor(task.rewards[:, menu], dtype=torch.float32)
    network = nn.Sequential(nn.Linear(x.shape[1], 128), nn.Tanh(), nn.Dropout(0.3), nn.Linear(128, len(menu)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
    before = tracker().last_step  # it is fitted twice: see train_judged
    for step in range(1_500):
        batch = torch.randint(len(x), (128,))
        optimiser.zero_grad()
        loss = loss_of(network(x[batch]), rewards[batch])
        if not torch.isfinite(loss):
            raise NonFiniteError(f"the loss is {loss.item()} at step {step}; the world's states are broken.")
        if step % 100 == 0:
            tracker().log({"train/loss": loss.item()}, before + step)
        loss.backward()
        optimiser.step()
    return Perceptron.of_torch(network)


def _behaviour_cloning(task: Task, seed: int) -> Policy:
    """Imitates, for each question, the program that is right most often among those that are right there."""
    often = torch.tensor(task.rewards[:, task.menu()].mean(0), dtype=torch.float32)

    def loss_of(logits: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, (rewards.round() + 0.5 * often).argmax(1))

    return by_scores(task, _network(task, seed, loss_of))


def group_relative(task: Task, seed: int) -> Perceptron:
    """Group-relative policy optimisation (Shao et al. 2024): programs of one question against their group's mean. The
    division by the group's deviation is left out (Liu et al. 2025): where all are wrong it learns nothing but prices.

    Returns:
        The logit of each program of the menu, from `Task.features`.
    """

    def loss_of(logits: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
        policy = torch.distributions.Categorical(logits=logits)
        group = policy.sample((16,)).T  # [B, 16]
        earned = rewards.gather(1, group)
        advantages = earned - earned.mean(1, keepdim=True)
        log_probs = torch.log_softmax(logits, 1).gather(1, group)
        loss: torch.Tensor = -(advantages * log_probs).mean() - 0.005 * policy.entropy().mean()
        return loss

    return _network(task, seed, loss_of)


_PPO: Mapping[str, Any] = {"n_steps": 64, "batch_size": 1024, "n_epochs": 4, "ent_coef": 0.005, "gae_lambda": 0.95}
_ALGORITHMS: Mapping[str, tuple[type[Any], Mapping[str, Any]]] = {
    "DQN": (DQN, {"learning_starts": 2_000, "train_freq": 4, "gradient_steps": 4, "batch_size": 256}),
    "A2C": (A2C, {"n_steps": 8, "ent_coef": 0.005}),
    "PPO": (PPO, _PPO),
    "MaskablePPO": (MaskablePPO, _PPO),
}


def _of_sb3(name: str) -> Learner:
    def learn(task: Task, seed: int) -> Policy:
        algorithm, settings = _ALGORITHMS[name]
        env = ProgramVecEnv(_env_of(task, 64))
        env.seed(seed)
        model = algorithm(
            "MultiInputPolicy", env, learning_rate=3e-4, gamma=1.0, seed=seed, device="cpu",
            policy_kwargs={"net_arch": [256]}, **settings,
        )  # fmt: skip
        model.learn(task.steps)
        rules = _env_of(task, 1).rules

        def policy(rows: Rows) -> Rows:
            start = np.zeros(len(rows), np.intp)
            actions, _ = model.predict(rules.observe(rows, start), deterministic=True)
            chosen: Rows = rules.tree.program[rules.move(start, actions)]
            return chosen

        return policy

    return learn


def _env_of(task: Task, lanes: int) -> WorldVectorEnv:
    """The menu as an environment, over the learner's questions."""
    env = WorldVectorEnv(lanes, task.world, split=task.split, look=task.config.look, layer_cost=task.config.price)
    assert isinstance(env.single_action_space, spaces.Discrete)
    return env


READ_NO_STATE = ("random", "best static", "best static per task", "text value", "oracle")
"""Learners that shuffled states take nothing from."""


def learn(task: Task, name: str, seeds: int, rows: Rows) -> tuple[Rows, NDArray[np.float64], float]:
    """Let a learner learn with several seeds and choose.

    Args:
        task: what it is given.
        name: one of `LEARNERS`.
        seeds: how many; a learner that draws nothing learns once.
        rows: questions to choose for, ``[Q]``.

    Returns:
        The programs chosen, columns ``[N, Q]``; executed layers / D of each answer, ``[N, Q]``; seconds to learn once.
    """
    learner, reads = LEARNERS[name]
    count = seeds if name not in _DRAW_NOTHING else 1
    started = time.perf_counter()
    chosen = np.stack([learner(task, seed)(rows) for seed in range(count)])
    return chosen, executed_costs(task, chosen, reads=reads), (time.perf_counter() - started) / count


_DRAW_NOTHING = (
    "best static",
    "best static per task",
    "linear value",
    "text value",
    "boosted value",
    "kernel value",
    "oracle",
)
LEARNERS: Mapping[str, tuple[Learner, bool]] = {
    "random": (_random, False),
    "best static": (_best_static, False),
    "best static per task": (_best_static_per_task, False),
    "linear value": (_linear_value, True),
    "text value": (_text_value, False),
    "boosted value": (_boosted_value, True),
    "kernel value": (_kernel_value, True),
    "LinUCB": (lambda task, seed: by_scores(task, bandit(task, seed, thompson=False)), True),
    "Thompson sampling": (lambda task, seed: by_scores(task, bandit(task, seed, thompson=True)), True),
    "behaviour cloning": (_behaviour_cloning, True),
    "GRPO": (lambda task, seed: by_scores(task, group_relative(task, seed)), True),
    **{name: (_of_sb3(name), True) for name in _ALGORITHMS},
    "oracle": (_oracle, False),
}
"""By name, and whether the learner reads a state."""
