"""Agents on a recorded world: what they choose there, by the table's verdicts; seconds, and no LLM."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents.base import Agent, Responder
from agents.fixed import StaticAgent, TaskStaticAgent
from agents.on_record import choose_on_record
from agents.registry import load_agents, read_cards
from eval.headroom import LearnerScore, score_learner
from eval.leaks import refuse_leaks
from eval.methods import BEST_STATIC, BEST_STATIC_PER_TASK, IDENTITY, method_of, with_distinct_names
from polar_env.errors import ConfigError, QuestionError
from polar_env.program import Program
from polar_env.worlds import RecordedWorld

__all__ = ["score_agents"]


def score_agents(
    world: RecordedWorld,
    names: Sequence[str],
    best: Program,
    by_task: Mapping[str, Program],
    split: str = "test",
    seed: int = 0,
) -> dict[str, LearnerScore]:
    """Score agents beside the identity and the best static programs.

    Args:
        world: the world.
        names: agents, as `agents.registry.load_agent` takes them, or folders of training runs.
        best: the best static program.
        by_task: the best one of each task.
        split: on which questions.
        seed: of random agents.

    Returns:
        By their names; seconds are those of deciding.

    Raises:
        LeakError: if a question was used to train an agent, or an agent reads a verdict.
        QuestionError: if the split is empty.
        ConfigError: for a method that answers out of several runs; its answers are not all recorded.
        NotRecordedError: if an agent chooses what was not recorded.
    """
    rows = world.rows(split)
    if not len(rows):
        raise QuestionError(f"'{world.card.name}' has no {split} questions.")
    questions = [world.questions[row] for row in rows]
    refuse_leaks(questions, list(read_cards(names).values()), world.prompts)
    agents: list[tuple[Agent | Responder, Path | None]] = [
        (StaticAgent(world.identity, IDENTITY), None),
        (StaticAgent(best, BEST_STATIC), None),
        (TaskStaticAgent(best, dict(by_task), BEST_STATIC_PER_TASK), None),
    ]
    agents += [loaded for name in names for loaded in load_agents(name, world, seed)]
    scores = {}
    for method in with_distinct_names([method_of(agent, folder) for agent, folder in agents]):
        name, agent = method.name, method.agent
        assert agent is not None
        if isinstance(agent, Responder):
            raise ConfigError(
                f"'{name}' answers out of several runs of the LLM, which a recorded world does not hold; evaluate it "
                "live, without --world."
            )
        started = time.perf_counter()
        chosen, costs = choose_on_record(world, agent, rows)
        seconds = time.perf_counter() - started
        scores[name] = score_learner(world, rows, chosen[None], costs[None], best, seconds)
    return scores
