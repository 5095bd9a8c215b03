"""Recorded worlds as Minari data sets for offline learning: episodes of a behaviour policy that is known.

Letters: ``Q`` questions, ``P`` programs.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from polar_env import RECORDED
from polar_env.envs.world_env import WorldEnv
from polar_env.traces.exchange.minari import new_dataset, plain_space, play, require_new

__all__ = ["Form", "Policy", "export_world"]

Policy = Literal["uniform", "best"]
Form = Literal["menu", "segments"]
_BEHAVIOUR = {
    "uniform": "uniform over the programs that the environment can choose, drawn for each episode with seed {seed}: "
    "each with probability 1 / {count}",
    "best": "the program of largest return for each question, which is the cheapest right one; the identity where no "
    "program is right. It has seen the answers: learn from it, but do not compare with it",
}


def export_world(
    world: str,
    dataset_id: str,
    policy: Policy = "uniform",
    form: Form = "menu",
    split: str = "train",
    per_question: int = 1,
    seed: int = 0,
) -> int:
    """Play a world's questions by a behaviour policy, and store the episodes in Minari's folder of data sets.

    The data set's environment is the world's own, and its environment for evaluation the same on test questions. Its
    reference scores are the mean returns of the identity (0) and of ``best`` (1).

    Args:
        world: a world that ships with the package, or a folder.
        dataset_id: Minari's name, e.g. ``polar/skills/uniform-v0``.
        policy: how programs are chosen: ``uniform``, or ``best``.
        form: of the environment.
        split: of the questions.
        per_question: episodes for each question; of ``best`` all are the same.
        seed: of the drawing.

    Returns:
        How many episodes there are.

    Raises:
        ConfigError: if Minari is not installed, or has a data set of that name.
        UnknownNameError: for a world, form or split that does not exist.
    """
    require_new(dataset_id)
    from minari.data_collector import EpisodeBuffer

    made: dict[str, Any] = {"world": world, "form": form, "disable_env_checker": True}
    outer, test = (gym.make(_id_of(world, form), split=of, **made) for of in (split, "test"))
    env = outer.unwrapped
    assert isinstance(env, WorldEnv)
    spelt = _spelt(env)
    returns = _returns(env)  # [Q, P]
    best = np.where(returns.max(1) > 0, returns.argmax(1), 0)  # [Q]
    rng, buffers = np.random.default_rng(seed), list[EpisodeBuffer]()
    for row, chosen in zip(env.rules.rows.tolist(), best.tolist(), strict=True):
        for _ in range(per_question):
            program = chosen if policy == "best" else int(rng.choice(sorted(spelt)))
            episode, _ = play(env, spelt[program], {"question": row})
            buffers.append(EpisodeBuffer(id=len(buffers), seed=0, infos={}, **episode))
    behaviour = _BEHAVIOUR[policy].format(seed=seed, count=len(spelt))
    new_dataset(
        dataset_id,
        buffers,
        env=outer,
        eval_env=test,
        action_space=plain_space(env.action_space),
        algorithm_name=policy,
        description=f"{split} questions of the recorded world '{env.rules.world.card.name}'. Behaviour: {behaviour}.",
        ref_min_score=float(returns[:, 0].mean()),
        ref_max_score=float(returns[np.arange(len(best)), best].mean()),
        requirements=["polar-env"],
    )
    return len(buffers)


def _id_of(world: str, form: Form) -> str:
    """The registered environment over all of a world; for a world that does not ship, one that takes its folder."""
    wanted = [{"world": world}, {"world": world, "form": form}]
    names = [name for name, settings in RECORDED.items() if settings in wanted and settings.get("form", "menu") == form]
    return f"polar_env:{[*names, 'Skills-SmolLM2-135M'][0]}-v0"


def _spelt(env: WorldEnv) -> dict[int, list[int]]:
    """For each program that the environment can choose, by its index: the fewest actions that lead to it."""
    tree, paths, waiting = env.rules.tree, {0: list[int]()}, deque([0])
    while waiting:
        node = waiting.popleft()
        for action in np.flatnonzero(tree.child[node] >= 0).tolist():
            after = int(tree.child[node, action])
            if after not in paths:
                paths[after] = [*paths[node], action]
                waiting.append(after)
    return {int(tree.program[node]): path for node, path in paths.items() if tree.program[node] >= 0}


def _returns(env: WorldEnv) -> NDArray[np.float64]:
    """What each program pays on each question of the split, ``[Q, P]``; minus infinity where none can choose it."""
    tree, rules = env.rules.tree, env.rules
    ends = np.flatnonzero(tree.program >= 0)
    programs = tree.program[ends]
    returns = np.full((len(rules.rows), len(rules.programs)), -np.inf)
    right = rules.world.arrays["right"][rules.rows]  # [Q, P]
    returns[:, programs] = right[:, programs] - rules.layer_cost * tree.layers[ends] / rules.depth
    return returns
