"""Measuring agents on held-out questions: one row for each question and method, appended while running."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agents.base import Agent, Decision
from agents.card import CARD, WARM_START, AgentCard, read_card
from agents.fixed import RandomAgent, StaticAgent
from agents.search.config import MctsConfig
from agents.search.lockstep import search
from polar_env.errors import FingerprintError, LeakError
from polar_env.program import Program
from polar_env.questions import Prompts, Question, twin_hash, without_examples
from polar_env.runner import ExecutionStats, Verdict
from polar_env.tables import ShardedTable, read_json, write_whole
from polar_env.traces.tree import best_programs
from polar_env.worlds import LiveWorld

__all__ = [
    "ORACLE",
    "Method",
    "Results",
    "evaluate",
    "evaluate_oracle",
    "method_of",
    "oracle_method",
    "refuse_leaks",
    "with_distinct_names",
]

ORACLE = "oracle"
"""Name of the search that sees the gold answer: an upper bound, never a result."""
_BATCH = 32
"""Questions that are decided and executed together (the batch size of the protocol's timing)."""
_META = "results.json"
_SCHEMA = pa.schema(
    [
        ("method_id", pa.string()),
        ("method", pa.string()),  # the name that is shown
        ("question_id", pa.string()),
        ("task", pa.string()),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("program", pa.string()),
        ("right", pa.bool_()),
        ("layers", pa.int32()),  # of the program, and those executed only to decide
        ("cost", pa.float32()),  # the same divided by D
        ("log_prob", pa.float32()),
        ("token_layers", pa.float32()),  # tokens through layers of the LLM, really executed, worked examples included
        ("agent_flops", pa.float64()),  # of the agent beside the LLM
        ("decide_seconds", pa.float32()),
        ("seconds", pa.float32()),  # deciding and executing together
        ("programs_tried", pa.int32()),
    ]
)
OnQuestions = Callable[[str, int], None]
"""Called with a method's name and the number of questions just measured."""


@dataclass(frozen=True)
class Method:
    """What is measured.

    Attributes:
        id: its identity: the hash of its card, its program or its settings.
        name: shown in reports.
        agent: decides; None for the oracle.
        remark: what its row must say beside the name.
        chosen_step: the step of training at which validation questions chose its policy; None for what was not trained.
    """

    id: str
    name: str
    agent: Agent | None = None
    remark: str = ""
    chosen_step: int | None = None


def method_of(agent: Agent, folder: Path | None = None) -> Method:
    """The method that an agent is.

    Args:
        agent: the agent.
        folder: where it was saved; None for an agent that its own settings describe.
    """
    if folder is not None:
        card, remark = read_card(folder), ""
        step: int | None = card.results.get("chosen_step")
        if step is not None and card.name != WARM_START:
            unchanged = "the warm start, unchanged: no policy beat it on validation questions"
            remark = f"the policy of step {step:,}" if step else unchanged
        return Method(_hash((folder / CARD).read_text(encoding="utf-8")), agent.name, agent, remark, step)
    if isinstance(agent, StaticAgent):
        return Method(_hash(f"static {agent.program}"), agent.name, agent)
    if isinstance(agent, RandomAgent):
        return Method(_hash(f"random {agent.seed} {' '.join(map(str, agent.pool))}"), agent.name, agent)
    return Method(_hash(f"{type(agent).__qualname__} {agent.name}"), agent.name, agent)


def oracle_method(config: MctsConfig, seed: int) -> Method:
    """The search that sees the gold answer, as a method."""
    return Method(_hash(f"oracle {config.model_dump_json()} {seed}"), ORACLE)


def with_distinct_names(methods: Sequence[Method]) -> list[Method]:
    """The methods without repetitions; of those that share a name all but the first show their identity, too: what is
    keyed by these names never mixes two methods.
    """
    distinct: dict[str, Method] = {}
    first: dict[str, str] = {}
    for method in methods:
        distinct.setdefault(method.id, method)
        first.setdefault(method.name, method.id)
    return [
        method if first[method.name] == method.id else replace(method, name=f"{method.name} ({method.id[:6]})")
        for method in distinct.values()
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Results(ShardedTable):
    """A folder of results of one model, prompt and set of questions.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA)

    def begin(
        self, world: LiveWorld, questions: Sequence[Question], methods: Sequence[Method], config: dict[str, Any]
    ) -> None:
        """Start, or go on where an interrupted evaluation of the same things stopped.

        Raises:
            FingerprintError: if results lie here of another model, prompt, set of questions or settings, from another
                device, or made with other versions of torch or transformers.
            ConfigError: if the file that says so is damaged.
        """
        meta = {
            "model": world.llm.name,
            "fingerprint": world.llm.fingerprint,
            "depth": world.depth,
            "dtype": world.llm.dtype_name,
            "device": world.llm.device.type,
            "versions": {name: version(name) for name in ("torch", "transformers")},
            "prompts": world.prompts.model_dump(mode="json"),
            "questions": [question.id for question in questions],
            "answers": _hash("\x1f".join(question.answer for question in questions)),
            "methods": {method.id: method.name for method in methods},
            "remarks": {method.name: method.remark for method in methods if method.remark},
            "config": config,
        }
        path = self.folder / _META
        if path.exists():
            before = self.meta
            changed = [key for key in meta if before.get(key) != meta[key]]
            if changed:
                raise FingerprintError(
                    f"{self.folder} holds results of an evaluation that differs in: {', '.join(changed)}. Delete the "
                    "folder, or give another --out."
                )
        write_whole(path, json.dumps(meta, indent=2).encode())

    @property
    def meta(self) -> dict[str, Any]:
        """What was evaluated, and how."""
        return read_json(self.folder / _META)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which they were written.

        Raises:
            TraceError: if a shard is damaged.
        """
        rows: list[dict[str, Any]] = self.table().to_pylist()
        return rows

    def measured(self, method: Method) -> set[str]:
        """Ids of the questions that a method was measured on."""
        batches = self.batches(["method_id", "question_id"])
        chosen = (batch.filter(pc.field("method_id") == method.id) for batch in batches)
        return {question_id for batch in chosen for question_id in batch["question_id"].to_pylist()}


def refuse_leaks(questions: Sequence[Question], cards: Sequence[AgentCard], prompts: Prompts) -> None:
    """Refuse questions, and twins of questions, that an agent was trained or chosen on, or that a prompt shows.

    Raises:
        LeakError: saying how many, and an example.
    """
    kept = {question.id for question in without_examples(questions, prompts)}
    shown = [question.text for question in questions if question.id not in kept]
    if shown:
        raise LeakError(
            f"{len(shown)} of {len(questions)} questions are worked examples of the prompt '{prompts.name}', or twins "
            f"of them, e.g. {shown[0]!r}. Leave them out with polar_env.questions.without_examples, or give another "
            "prompt."
        )
    for card in cards:
        for split, hashes in (("train", card.train_asks), ("validation", card.validation_asks)):
            used = set(hashes)
            leaked = [question.text for question in questions if twin_hash(question.ask) in used]
            if leaked:
                raise LeakError(
                    f"{len(leaked)} of {len(questions)} questions are {split} questions of the agent '{card.name}', or "
                    f"twins of them, e.g. {leaked[0]!r}. Evaluate on the test split (--split test) or on other "
                    "questions."
                )


def evaluate(
    world: LiveWorld,
    methods: Sequence[Method],
    questions: Sequence[Question],
    results: Results,
    on_questions: OnQuestions = lambda _, __: None,
) -> None:
    """Measure methods; questions that the results have already are left out.

    Each method starts from nothing, so that its seconds are its own: deciding and executing together.

    Args:
        world: executes programs.
        methods: what to measure; the first program of each decision counts.
        questions: held-out questions.
        results: where rows go, a shard for each batch.
        on_questions: see `OnQuestions`.
    """
    for method in methods:
        if method.agent is None:
            continue
        measured = results.measured(method)
        todo = [question for question in questions if question.id not in measured]
        with world.from_nothing():
            for batch in (todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)):
                before, started = world.stats.copy(), time.perf_counter()
                decisions = method.agent.decide([question.ask for question in batch])
                decided = time.perf_counter()
                pairs = [(q, decision.program) for q, decision in zip(batch, decisions, strict=True)]
                verdicts = world.verdicts(pairs)
                cost = _Cost.of(len(batch), started, decided, world.stats.since(before))
                rows = zip(batch, decisions, verdicts, strict=True)
                results.append([_row(world, method, q, d, v, cost) for q, d, v in rows])
                on_questions(method.name, len(batch))


def evaluate_oracle(
    world: LiveWorld,
    method: Method,
    questions: Sequence[Question],
    config: MctsConfig,
    results: Results,
    *,
    seed: int = 0,
    on_questions: OnQuestions = lambda _, __: None,
) -> None:
    """Search held-out questions with the gold answer in sight: the shortest right program found, as an upper bound."""
    measured = results.measured(method)
    todo = [question for question in questions if question.id not in measured]
    with world.from_nothing():
        for batch in (todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)):
            before, started = world.stats.copy(), time.perf_counter()
            trees = search(world, batch, config, seed)
            cost = _Cost.of(len(batch), started, time.perf_counter(), world.stats.since(before))
            best = [(tree, best_programs(tree)[0]) for tree in trees]
            results.append(
                [_row(world, method, t.question, Decision.of(p), t.verdicts[p], cost, len(t.verdicts)) for t, p in best]
            )
            on_questions(method.name, len(batch))


@dataclass(frozen=True)
class _Cost:
    """What one question of a batch cost: its share of the whole."""

    seconds: float
    decide_seconds: float
    token_layers: float

    @classmethod
    def of(cls, questions: int, started: float, decided: float, stats: ExecutionStats) -> _Cost:
        seconds = time.perf_counter() - started
        return cls(seconds / questions, (decided - started) / questions, stats.executed_tokens / questions)


def _row(
    world: LiveWorld,
    method: Method,
    question: Question,
    decision: Decision,
    verdict: Verdict,
    cost: _Cost,
    tried: int = 1,
) -> dict[str, Any]:
    program: Program = decision.program
    return {
        "method_id": method.id,
        "method": method.name,
        "question_id": question.id,
        "task": question.task,
        "text": question.text,
        "answer": question.answer,
        "program": str(program),
        "right": verdict.right,
        "layers": len(program) + decision.layers,
        "cost": (len(program) + decision.layers) / world.depth,
        "log_prob": verdict.log_prob,
        "token_layers": cost.token_layers,
        "agent_flops": decision.flops,
        "decide_seconds": cost.decide_seconds,
        "seconds": cost.seconds,
        "programs_tried": tried,
    }
