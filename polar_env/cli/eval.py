"""``polar eval``: measure agents on held-out questions and write table, page and summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from agents.base import Agent
from agents.fixed import StaticAgent
from agents.load import find_agents, load_agent
from agents.policy import WEIGHTS, AgentCard, read_card
from agents.search.config import MctsConfig
from eval.agreement import VerdictPairs, agreement, agreement_table, compare_verdicts
from eval.evaluate import Results, evaluate, evaluate_oracle, refuse_leaks
from eval.report import write_report
from eval.summary import shorter_share, summarise, summary_table
from polar_env.cli.common import (
    QuestionsConfig,
    console,
    open_executor,
    open_prompt,
    open_questions,
    progress_bar,
    with_model,
)
from polar_env.errors import FingerprintError
from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Question, Split, mixed_order
from polar_env.tables import sha256_of, write_whole

__all__ = ["CONFIG", "EvalConfig", "run"]


class EvalConfig(QuestionsConfig):
    """Measure agents beside identity, random programs and the best static program on held-out questions."""

    agent: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Agents, repeatable: identity, random, static:PROGRAM, the folder of a saved agent, or of a training run; by
    default the run at OUT, if there is one. Identity and random are always measured."""
    split: Split = "test"
    """Which split of the questions."""
    oracle_questions: Annotated[int, Field(ge=0)] = 128
    """On how many of them the search oracle (an upper bound) runs; 0 leaves it out."""
    oracle: MctsConfig = MctsConfig()
    """The oracle's search."""
    agreement_questions: Annotated[int, Field(ge=0)] = 500
    """On how many open questions, tasks taking turns, the answers of the identity and of the last agent are also
    generated and verified, to compare both verdicts; 0 leaves it out."""


CONFIG = EvalConfig


def run(config: EvalConfig) -> dict[str, Any]:
    """Evaluate; everything lies in ``OUT/eval``."""
    names = config.agent or ((str(config.out),) if find_agents(str(config.out)) else ())
    names = tuple(str(folder) for name in names for folder in (find_agents(name) or (name,)))
    cards = [read_card(Path(name)) for name in names if Path(name).is_dir()]
    config = _with_card(config, cards)
    prompt = cards[0].prompt if cards and not config.prompt else open_prompt(config)
    questions = open_questions(config, config.split, without=prompt)
    for card in cards:
        refuse_leaks(questions, card.train_texts)
    config = with_model(config, cards[0].model, cards[0].dtype) if cards else config
    executor = open_executor(config, prompt)
    executor.check(questions)
    agents = _agents(executor, names, cards, config.seed)
    folder = config.out / "eval"
    results = Results(folder / "results")
    settings = config.model_dump(mode="json", exclude={"json_output"})
    weights = {name: sha256_of(Path(name) / WEIGHTS) for name in names if Path(name).is_dir()}
    results.begin(executor, questions, {**settings, "agents": dict.fromkeys([a.name for a in agents], "") | weights})
    searched = mixed_order(questions, config.seed)[: config.oracle_questions]
    try:
        total = len(agents) * len(questions) + len(searched)
        with progress_bar(executor.stats, "evaluating", total, "questions") as bar:
            evaluate(executor, agents, questions, results, lambda _, count: bar.advance(count))
            evaluate_oracle(
                executor, searched, config.oracle, results,
                seed=config.seed, on_progress=lambda _, count: bar.advance(count),
            )  # fmt: skip
        compared = dict.fromkeys(agent.name for agent in (agents[0], agents[-1]) if agent.name != "random")
        pairs = VerdictPairs(results.folder / "verdicts")
        _compare_verdicts(config, executor, list(compared), questions, results, pairs)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{results.folder} keeps what was measured; run the same command to go on.") from None
    report_notes = [note for card in cards if (note := _note(card))]
    agreed = agreement(pairs.rows(), "identity")
    report = write_report(folder, results, report_notes, verdicts=agreement_table(pairs.rows()) if agreed else None)
    summary = make_summary(results, report) | {
        "chosen_step": {card.name: card.chosen_step for card in cards},
        "agreement": agreed.value if agreed else None,
        "agreement_low": agreed.low if agreed else None,
        "agreement_high": agreed.high if agreed else None,
    }
    write_whole(folder / "summary.json", json.dumps(summary, indent=2).encode())
    if not config.json_output:
        print(summary_table(summarise(results.rows(), executor.depth)).markdown())
    console.print(f"report: {report}", markup=False)
    return summary


def _compare_verdicts(
    config: EvalConfig,
    executor: Executor,
    methods: list[str],
    questions: list[Question],
    results: Results,
    pairs: VerdictPairs,
) -> None:
    """Generate the answers of some methods on some open questions, under the programs that were measured."""
    chosen = mixed_order([question for question in questions if not question.choices], config.seed)
    chosen = chosen[: config.agreement_questions]
    measured = {(row["method"], row["question_id"]): row for row in results.rows()}
    with progress_bar(executor.stats, "comparing verdicts", len(methods) * len(chosen), "answers") as bar:
        for method in methods:
            rows = [measured[method, question.id] for question in chosen]
            programs, forced = [Program.parse(row["program"]) for row in rows], [row["right"] for row in rows]
            compare_verdicts(executor, method, chosen, programs, forced, pairs, bar.advance)


def _with_card(config: EvalConfig, cards: list[AgentCard]) -> EvalConfig:
    """Questions come from the agents' cards where no flag names any; all cards must agree on model and prompt."""
    for card in cards[1:]:
        if (card.fingerprint, card.prompt) != (cards[0].fingerprint, cards[0].prompt):
            raise FingerprintError(
                f"agents '{cards[0].name}' and '{card.name}' were trained with different models or prompts; evaluate "
                "them one at a time."
            )
    if cards and not config.questions:
        return config.model_copy(update={"questions": tuple(cards[0].questions)})
    return config


def _agents(executor: Executor, names: tuple[str, ...], cards: list[AgentCard], seed: int) -> list[Agent]:
    """Identity first, then random, the best static program of the first card, and the rest as given."""
    agents = [load_agent("identity", executor), load_agent("random", executor, seed)]
    if cards:
        agents.append(StaticAgent(Program.parse(cards[0].best_static, executor.depth), "best static"))
    agents += [load_agent(name, executor, seed) for name in names if name not in ("identity", "random")]
    for agent, name in zip(agents[-len(names) :] if names else [], names, strict=False):
        if [other.name for other in agents].count(agent.name) > 1:
            agent.name = f"{agent.name} ({name})"
    return agents


def _note(card: AgentCard) -> str:
    """What a reader of the table must know of an agent."""
    if card.name != "ppo":
        return ""
    if card.chosen_step:
        return f"ppo: the policy at step {card.chosen_step}, the best of those measured on validation questions."
    return (
        "ppo: no policy of the training beat the warm start on validation questions: this row is the imitation policy."
    )


def make_summary(results: Results, report: Path) -> dict[str, Any]:
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
