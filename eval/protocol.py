"""The protocol of an evaluation, from agents' names to the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import mul
from pathlib import Path
from typing import Any

from agents.base import Responder
from agents.card import WARM_START, AgentCard
from agents.registry import read_cards
from eval.config import EvaluationConfig
from eval.evaluate import evaluate, evaluate_oracle
from eval.leaks import refuse_leaks
from eval.methods import BEST_STATIC, IDENTITY, Method, methods_of, oracle_method, with_distinct_names
from eval.points import operating_points
from eval.prompts import PromptChoice, write_choices
from eval.report import summary_of, write_report
from eval.results import Results
from eval.summary import shorter_share
from eval.timing import BATCH_SIZES, time_methods
from polar_env.progress import Progress, no_progress
from polar_env.questions import Question, mixed_order
from polar_env.tables import write_whole
from polar_env.worlds import LiveWorld

__all__ = ["count_runs", "evaluate_agents"]

_RUNS_OF_RESPONDER, _MENU = 2, 50
"""What answers out of several runs takes two or three; an agent chooses about so many programs in all."""


def evaluate_agents(
    world: LiveWorld,
    names: Sequence[str],
    questions: Sequence[Question],
    folder: Path,
    config: EvaluationConfig,
    progress: Progress = no_progress,
    prompt_choices: Sequence[PromptChoice] = (),
) -> dict[str, Any]:
    """Measure agents beside the identity, the best static programs and the other baselines, and write the report.

    Stopped, it goes on where it was; everything lies in the folder.

    Args:
        world: executes programs.
        names: agents, as `agents.registry.load_agent` takes them, or folders of training runs.
        questions: held-out questions.
        folder: gets ``results``, ``report.html``, ``table.md``, ``figures``, ``summary.json`` and
            ``points.json``.
        config: the settings.
        progress: shows how far it is.
        prompt_choices: how the world's prompts were chosen, for the report.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        LeakError: if a question, or a twin of one, was used to train or choose an agent, or stands in the prompt.
        FingerprintError: for agents of another model or prompt, or results of another evaluation in the folder.
        QuestionTooLongError, MemoryBoundError: for a question that cannot be executed.
    """
    cards = read_cards(names)
    refuse_leaks(questions, list(cards.values()), world.prompts)
    world.check(questions)
    oracle, *methods = _methods(world, names, cards, config)
    mixed = mixed_order(questions, config.seed)
    results = Results(folder / "results")
    results.begin(world, mixed, [*methods, oracle], config.model_dump(mode="json"))
    write_choices(results.folder, prompt_choices)
    searched = mixed[: config.oracle_questions]
    forced = [question.id for question in mixed if not question.choices][: config.agreement_questions]
    planned = sum(min(method.limit or len(mixed), len(mixed)) for method in methods)
    with progress("evaluating", planned + len(searched), "questions") as advance:
        evaluate(world, methods, mixed, results, forced=set(forced), on_questions=advance)
        evaluate_oracle(world, oracle, searched, config.oracle, results, seed=config.seed, on_questions=advance)
    timed = _timed(methods)
    asks = [question.ask for question in mixed[: 1 + config.timing_questions]]
    if config.timing_questions and len(asks) > 1:
        time_methods(world, timed, asks, results.folder, progress)
    report = write_report(folder, results)
    summary = _summary(results, report, methods)
    write_whole(folder / "summary.json", json.dumps(summary, indent=2).encode())
    return summary


def count_runs(
    world: LiveWorld, names: Sequence[str], questions: int, config: EvaluationConfig
) -> tuple[int, int, int]:
    """About how many verdicts, different programs and answers an evaluation asks for; see `evaluate_agents`."""
    _, *methods = _methods(world, names, read_cards(names), config)
    runs = [_RUNS_OF_RESPONDER if isinstance(method.agent, Responder) else 1 for method in methods]
    each = [min(method.limit or questions, questions) for method in methods]
    learned = sum(method.role == "agent" for method in methods)
    sizes = len(BATCH_SIZES) if config.timing_questions else 0  # each starts from nothing
    timed = sizes * min(config.timing_questions, questions) * len(_timed(methods))
    searched = min(config.oracle_questions, questions)
    agreement = len(methods) * min(config.agreement_questions, questions)
    drawn = min(config.baseline_questions, questions) + learned * _MENU * (1 + sizes)
    return (
        searched * (1 + config.oracle.simulations),
        config.oracle.count_programs(searched) + drawn,
        sum(map(mul, runs, each)) + timed + agreement,
    )


def _methods(
    world: LiveWorld, names: Sequence[str], cards: dict[Path, AgentCard], config: EvaluationConfig
) -> list[Method]:
    """The oracle, then what is measured."""
    oracle = oracle_method(config.oracle, config.seed)
    return with_distinct_names([oracle, *methods_of(world, names, cards, config.seed, config.baseline_questions)])


def _timed(methods: Sequence[Method]) -> list[Method]:
    """The methods whose time is measured."""
    return [method for method in methods if method.role == "agent" or method.name in (IDENTITY, BEST_STATIC)]


def _summary(results: Results, report: Path, methods: Sequence[Method]) -> dict[str, Any]:
    """The keys that scripts read: each method beside its baselines, the findings in words, what the oracle found."""
    summary, rows, depth = summary_of(results), results.rows(), int(results.meta["depth"])
    points = operating_points(summary, rows, depth)
    write_whole(report.parent / "points.json", json.dumps(points, indent=1).encode())
    shorter = shorter_share(rows, depth)
    values = summary.as_json()
    for method in methods:
        if method.is_unchanged_start:  # one row for both, which scripts find under either name
            values.setdefault(WARM_START, values[method.name])
    return {
        **values,
        "findings": summary.sentences,
        "chosen_step": {method.name: method.chosen_step for method in methods if method.chosen_step is not None},
        "shorter_share": shorter.value if shorter else None,
        "shorter_low": shorter.low if shorter else None,
        "shorter_high": shorter.high if shorter else None,
        "shorter_questions": shorter.count if shorter else 0,
        "report": str(report),
    }
