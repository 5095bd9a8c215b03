"""Agents on a recorded world: what they choose there, by the table's verdicts; seconds, and no LLM."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from agents.base import Agent, Responder
from agents.fixed import StaticAgent, TaskStaticAgent
from agents.registry import find_agents, load_agent, read_cards, split_price
from eval.headroom import LearnerScore, score_learner
from eval.leaks import refuse_leaks
from eval.methods import BEST_STATIC, BEST_STATIC_PER_TASK, IDENTITY
from polar_env.errors import ConfigError, QuestionError
from polar_env.program import Program
from polar_env.runner.choosing import no_verdicts_for
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
        By their names.

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
    agents: dict[str, Agent | Responder] = {
        IDENTITY: StaticAgent(world.identity, IDENTITY),
        BEST_STATIC: StaticAgent(best, BEST_STATIC),
        BEST_STATIC_PER_TASK: TaskStaticAgent(best, dict(by_task), BEST_STATIC_PER_TASK),
    }
    for name in names:
        price = split_price(name)[1]
        suffix = f"@{price}" if price else ""
        for each in [f"{folder}{suffix}" for folder in find_agents(name)] or [name]:
            agent = load_agent(each, world, seed)
            agents.setdefault(agent.name, agent)
    scores = {}
    for name, agent in agents.items():
        if isinstance(agent, Responder):
            raise ConfigError(
                f"'{name}' answers out of several runs of the LLM, which a recorded world does not hold; evaluate it "
                "live, without --world."
            )
        started = time.perf_counter()
        with no_verdicts_for(name):
            decisions = agent.decide([question.ask for question in questions])
        seconds = time.perf_counter() - started
        chosen = np.array([[world.column(decision.program) for decision in decisions]])
        layers = np.array([[len(decision.program) + decision.layers for decision in decisions]])
        scores[name] = score_learner(world, rows, chosen, layers / world.depth, best, seconds)
    return scores
