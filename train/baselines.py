"""The baselines that a training fits beside its agents, saved as agents: static programs, pruning, exit, ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.card import CARD, AgentCard, save_agent
from polar_env.program import Program
from polar_env.questions import Question, mixed_order
from polar_env.worlds import LiveWorld
from train.block_influence import block_influence, without_weakest
from train.static import StaticChoice, run_verdicts

__all__ = ["choose_threshold", "save_baselines", "save_static_programs"]

_PRUNED = (0.1, 0.25)
"""Shares of the layers that pruning leaves out."""
_ASKS = 64
"""Train questions that block influence is measured on."""
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_LOSS = 0.01
"""Share of right answers that an exit may lose on the questions that choose its threshold."""
_EXIT_QUESTIONS = 100


def save_baselines(
    world: LiveWorld,
    train: Sequence[Question],
    validation: Sequence[Question],
    choice: StaticChoice,
    blank: AgentCard,
    agents: Path,
) -> None:
    """Save the baselines that are not there yet.

    Args:
        world: executes.
        train: train questions.
        validation: validation questions.
        choice: the best static programs.
        blank: a card with what all agents of this training have in common.
        agents: gets a folder for each.
    """

    def missing(name: str) -> bool:
        return not (agents / name / CARD).is_file()

    def save(kind: str, name: str, config: dict[str, Any]) -> None:
        if missing(name):
            _save(blank, agents, kind, name, config)

    save_static_programs(choice, blank, agents)
    best = str(choice.program)
    others = [str(program) for program in choice.finalists if program != choice.program][:1]
    save("ensemble", "ensemble", {"programs": list(dict.fromkeys([str(world.identity), best, *others]))})
    pruned = {f"shortgpt-{round(100 * share)}": max(1, round(share * world.depth)) for share in _PRUNED}
    if any(map(missing, pruned)):
        influence = block_influence(world, [question.ask for question in mixed_order(train, 0)[:_ASKS]])
        for name, count in pruned.items():
            save("static", name, {"program": str(without_weakest(influence, count))})
    if missing("early-exit"):
        some = mixed_order(validation, 0)[:_EXIT_QUESTIONS]
        save("early-exit", "early-exit", {"threshold": choose_threshold(world, some)})


def save_static_programs(choice: StaticChoice, blank: AgentCard, agents: Path) -> None:
    """Save the best static program, and the best one of each task, as agents.

    Args:
        choice: the programs.
        blank: a card with what all agents of this training have in common.
        agents: gets a folder for each.
    """
    best, by_task = str(choice.program), {task: str(program) for task, program in choice.by_task.items()}
    _save(blank, agents, "static", "best-static", {"program": best})
    _save(blank, agents, "static-per-task", "best-static-per-task", {"program": best, "by_task": by_task})


def _save(blank: AgentCard, agents: Path, kind: str, name: str, config: dict[str, Any]) -> None:
    """Save an agent that its card describes wholly."""
    save_agent(blank.model_copy(update={"kind": kind, "name": name, "config": config}), agents / name, {})


def choose_threshold(world: LiveWorld, questions: Sequence[Question]) -> float:
    """The lowest confidence at which stopping early loses next to nothing on some questions; 1 where there is none."""
    first, depth = world.depth // 2, world.depth
    programs = [Program(tuple(range(length))) for length in range(first + 1, depth + 1)]
    if len(programs) < 2:
        return 1.0
    sure = np.stack(
        [world.asks.confidences([(q.ask, program.layers) for q in questions])[:, 0] for program in programs[:-1]],
        axis=1,
    )
    right = run_verdicts(world, questions, programs)  # [Q, exits]
    for threshold in _THRESHOLDS:
        exits = np.where((sure > threshold).any(1), (sure > threshold).argmax(1), len(programs) - 1)
        if right[np.arange(len(questions)), exits].mean() >= right[:, -1].mean() - _LOSS:
            return threshold
    return 1.0
