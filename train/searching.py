"""The steps of a search: trees, what luck finds beside them, and the race of the programs that many questions share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polar_env.errors import ConfigError
from polar_env.progress import Progress, no_progress
from polar_env.questions import Question, mixed_order
from polar_env.runner import ExecutionStats
from polar_env.traces import TraceSet
from polar_env.worlds import LiveWorld
from train.chance import evaluate_chance
from train.collect import Engine, search_traces
from train.config import SearchConfig
from train.matrix import race

__all__ = ["SearchOutcome", "check_search", "search_programs"]


@dataclass(frozen=True)
class SearchOutcome:
    """What a search did.

    Attributes:
        traces: folder of the trace set.
        rows: verdicts in it.
        questions_searched: questions that got a tree now.
        survivors: programs that survived the race, the identity first.
        layer_executions: layers executed on asks.
        prompt_layer_executions: layers executed on worked examples.
        answer_layer_executions: layers executed on answers behind asks.
        sharing_factor: tokens through layers asked for, over those executed.
        seconds: spent executing.
    """

    traces: str
    rows: int
    questions_searched: int
    survivors: list[str]
    layer_executions: int
    prompt_layer_executions: int
    answer_layer_executions: int
    sharing_factor: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def check_search(config: SearchConfig) -> None:
    """Refuse settings that contradict one another.

    Raises:
        ConfigError: saying which.
    """
    if config.matrix and config.trees:
        raise ConfigError("--matrix races without trees and --trees searches without the race; give one or neither.")
    if config.matrix and config.chance:
        raise ConfigError("--chance compares trees with luck, and --matrix grows none; leave out one of them.")


def search_programs(
    world: LiveWorld,
    engine: Engine,
    questions: Sequence[Question],
    held_out: Sequence[Question],
    folder: Path,
    config: SearchConfig,
    specs: Sequence[str] = (),
    progress: Progress = no_progress,
) -> SearchOutcome:
    """Search programs for questions, and append all verdicts to a trace set; stopped, it goes on where it was.

    Args:
        world: executes what is raced.
        engine: grows the trees.
        questions: train questions; the race uses all, the first ones get a tree.
        held_out: questions on which the survivors of the race are measured, too.
        folder: of the trace set.
        config: the settings.
        specs: where the questions come from, for the trace set's metadata.
        progress: shows how far it is.

    Raises:
        ConfigError: for settings that contradict one another.
        FingerprintError: if traces of another model, prompt or configuration lie there already.
        QuestionTooLongError, MemoryBoundError: for a question that cannot be executed.
    """
    check_search(config)
    world.check(questions)
    stages = ({"race"} if not config.trees else set()) | ({"mcts"} if not config.matrix else set())
    settings = config.model_dump(mode="json", include={"seed", *stages}) | {"questions": list(specs)}
    traces = TraceSet.create(folder, world, settings)
    stats = [world.stats] if engine.stats is world.stats else [world.stats, engine.stats]
    before = [each.copy() for each in stats]
    searched, survivors = 0, []
    if not config.matrix:
        searched = _grow_trees(engine, questions, traces, config, progress)
    if config.chance:
        with progress("random programs", None, "verdicts") as advance:
            evaluate_chance(world, questions, traces, config.mcts, config.seed, config.in_flight, advance)
    if not config.trees:
        with progress("racing shared programs", None, "verdicts") as advance:
            survivors = race(
                world, questions, traces, config.race, held_out=held_out, seed=config.seed, on_verdicts=advance
            )
    done = ExecutionStats()
    for each, earlier in zip(stats, before, strict=True):
        done.add(each.since(earlier))
    return SearchOutcome(
        traces=str(traces.folder),
        rows=traces.verdicts.count,
        questions_searched=searched,
        survivors=[str(program) for program in survivors],
        layer_executions=done.executed_layers,
        prompt_layer_executions=done.prompt_layers,
        answer_layer_executions=done.answer_layers,
        sharing_factor=done.sharing,
        seconds=done.seconds,
    )


def _grow_trees(
    engine: Engine, questions: Sequence[Question], traces: TraceSet, config: SearchConfig, progress: Progress
) -> int:
    """Trees for the first questions, tasks taking turns; returns how many were searched now."""
    chosen = mixed_order(questions, config.seed)[: config.tree_questions]
    left = len({question.id for question in chosen} - traces.questions_done())
    title = "searching trees" if left == len(chosen) else f"searching trees ({len(chosen) - left} were there)"
    with progress(title, left * (config.mcts.simulations + 1), "programs") as advance:
        return search_traces(
            engine, chosen, traces, config.mcts, seed=config.seed, in_flight=config.in_flight, on_verdicts=advance
        )
