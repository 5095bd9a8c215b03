"""The protocol of an evaluation, from agents' names to the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.card import AgentCard
from agents.fixed import StaticAgent
from agents.registry import find_agents, load_agent, read_cards
from eval.agreement import VerdictPairs, agreement, agreement_table, compare_verdicts
from eval.config import EvaluationConfig
from eval.evaluate import (
    Method,
    Results,
    evaluate,
    evaluate_oracle,
    method_of,
    oracle_method,
    refuse_leaks,
    with_distinct_names,
)
from eval.report import write_report
from eval.summary import shorter_share, summarise
from polar_env.program import Program
from polar_env.progress import Progress, no_progress
from polar_env.questions import Question, mixed_order
from polar_env.tables import write_whole
from polar_env.worlds import LiveWorld

__all__ = ["evaluate_agents"]


def evaluate_agents(
    world: LiveWorld,
    names: Sequence[str],
    questions: Sequence[Question],
    folder: Path,
    config: EvaluationConfig,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure agents beside the identity, random programs and the best static program, and write the report.

    Stopped, it goes on where it was; everything lies in the folder.

    Args:
        world: executes programs.
        names: agents, as `agents.registry.load_agent` takes them, or folders of training runs.
        questions: held-out questions.
        folder: gets ``results``, ``report.html``, ``table.md``, ``figures`` and ``summary.json``.
        config: the settings.
        progress: shows how far it is.

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
    oracle, *methods = with_distinct_names(
        [oracle_method(config.oracle, config.seed), *_methods(world, names, cards, config.seed)]
    )
    results = Results(folder / "results")
    results.begin(world, questions, [*methods, oracle], config.model_dump(mode="json"))
    searched = mixed_order(questions, config.seed)[: config.oracle_questions]
    with progress("evaluating", len(methods) * len(questions) + len(searched), "questions") as advance:
        evaluate(world, methods, questions, results, lambda _, count: advance(count))
        evaluate_oracle(
            world, oracle, searched, config.oracle, results,
            seed=config.seed, on_questions=lambda _, count: advance(count),
        )  # fmt: skip
    pairs = VerdictPairs(results.folder / "verdicts")
    _compare_verdicts(world, methods, questions, results, pairs, config, progress)
    agreed = agreement(pairs.rows(), "identity")
    report = write_report(folder, results, verdicts=agreement_table(pairs.rows()) if agreed else None)
    summary = _summary(results, report) | {
        "chosen_step": {method.name: method.chosen_step for method in methods if method.chosen_step is not None},
        "agreement": agreed.value if agreed else None,
        "agreement_low": agreed.low if agreed else None,
        "agreement_high": agreed.high if agreed else None,
    }
    write_whole(folder / "summary.json", json.dumps(summary, indent=2).encode())
    return summary


def _methods(world: LiveWorld, names: Sequence[str], cards: dict[Path, AgentCard], seed: int) -> list[Method]:
    """Identity first, then random, the best static program of the first card, and the rest as given."""
    methods = [method_of(load_agent("identity", world)), method_of(load_agent("random", world, seed))]
    static = next((card.results["best_static"] for card in cards.values() if "best_static" in card.results), None)
    if static is not None:
        best = method_of(StaticAgent(Program.parse(static, world.depth), "best static"))
        if best.id == methods[0].id:  # one row for both
            methods[0] = replace(methods[0], remark="also the best static program")
        methods.append(best)
    for name in names:
        folders = find_agents(name)
        methods += [method_of(load_agent(str(folder), world), folder) for folder in folders]
        methods += [] if folders else [method_of(load_agent(name, world, seed))]
    return methods


def _compare_verdicts(
    world: LiveWorld,
    methods: Sequence[Method],
    questions: Sequence[Question],
    results: Results,
    pairs: VerdictPairs,
    config: EvaluationConfig,
    progress: Progress,
) -> None:
    """Generate the answers of the identity and of the last agent on some open questions."""
    compared = list(dict.fromkeys(m.name for m in (methods[0], methods[-1]) if m.name != "random"))
    chosen = mixed_order([question for question in questions if not question.choices], config.seed)
    chosen = chosen[: config.agreement_questions]
    measured = {(row["method"], row["question_id"]): row for row in results.rows()}
    with progress("comparing verdicts", len(compared) * len(chosen), "answers") as advance:
        for name in compared:
            rows = [measured[name, question.id] for question in chosen]
            programs, forced = [Program.parse(row["program"]) for row in rows], [row["right"] for row in rows]
            compare_verdicts(world, name, chosen, programs, forced, pairs, advance)


def _summary(results: Results, report: Path) -> dict[str, Any]:
    """The keys that scripts read: each method, the paired difference of PPO, the share of shorter ones."""
    rows = results.rows()
    depth = int(results.meta["depth"])
    methods = summarise(rows, depth)
    summary: dict[str, Any] = {name.replace(" ", "_"): method.as_json() for name, method in methods.items()}
    learnt = methods.get("ppo")
    if learnt is not None and learnt.delta is not None:
        summary |= {"delta": learnt.delta.value, "delta_low": learnt.delta.low, "delta_high": learnt.delta.high}
    shorter = shorter_share(rows, depth)
    summary |= {
        "shorter_share": shorter.value if shorter else None,
        "shorter_low": shorter.low if shorter else None,
        "shorter_high": shorter.high if shorter else None,
        "shorter_questions": shorter.count if shorter else 0,
    }
    return {**summary, "report": str(report)}
