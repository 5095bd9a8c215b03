"""Measuring methods on held-out questions: one row for each question and method, appended while running.

All methods answer the same batch of questions before the next one starts, so that they share the states that their
programs have in common. Every batch starts from nothing: an evaluation that was stopped goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from agents.base import Agent, Responder, Response
from agents.search.config import MctsConfig
from agents.search.lockstep import search
from eval.methods import IDENTITY, Method
from eval.results import Results
from polar_env.questions import Ask, Question, is_right, is_right_in_any_form
from polar_env.runner import Answer, no_verdicts_for
from polar_env.traces.tree import best_programs
from polar_env.worlds import AskWorld, LiveWorld

__all__ = ["BATCH", "answer_is_right", "evaluate", "evaluate_oracle", "respond"]

BATCH = 128
"""Questions that all methods answer before the next ones."""
_ORACLE_BATCH = 32
OnQuestions = Callable[[int], None]
"""Called with the number of questions that a method just answered."""


def evaluate(
    world: LiveWorld,
    methods: Sequence[Method],
    questions: Sequence[Question],
    results: Results,
    *,
    forced: Collection[str] = (),
    on_questions: OnQuestions = lambda _: None,
) -> None:
    """Measure methods; batches that the results have already are left out.

    Args:
        world: executes programs.
        methods: what to measure; the first program of each decision counts.
        questions: held-out questions; a method that has a limit answers the first of them.
        results: where rows go, a shard for each batch.
        forced: ids of open questions on which the teacher-forced verdict of each method's program is asked for, too.
        on_questions: see `OnQuestions`.
    """
    measured = results.measured(methods[0])
    for start in range(0, len(questions), BATCH):
        batch = questions[start : start + BATCH]
        if batch[0].id in measured:
            continue
        rows = []
        with world.from_nothing():
            for method in methods:
                assert method.agent is not None
                some = batch if method.limit is None else batch[: max(0, method.limit - start)]
                responses = respond(method.agent, world, [question.ask for question in some])
                verdicts = _forced(world, method, some, responses, forced)
                each = zip(some, responses, strict=True)
                rows += [_row(world, method, q, response, verdicts.get(q.id)) for q, response in each]
                on_questions(len(some))
        results.append(rows)


def respond(agent: Agent | Responder, world: AskWorld, asks: Sequence[Ask]) -> list[Response]:
    """A method's answers.

    Args:
        agent: the method.
        world: executes.
        asks: the questions as they are asked.

    Raises:
        LeakError: if it reads a verdict.
    """
    if not asks:
        return []
    with no_verdicts_for(agent.name):
        if isinstance(agent, Responder):
            return agent.respond(asks)
        decisions = agent.decide(asks)
    answers = world.answers(asks, [decision.program for decision in decisions])
    return [
        Response(answer, (decision.program,), decision.layers, decision.flops)
        for answer, decision in zip(answers, decisions, strict=True)
    ]


def _forced(
    world: LiveWorld,
    method: Method,
    batch: Sequence[Question],
    responses: Sequence[Response],
    asked_for: Collection[str],
) -> dict[str, bool]:
    """The teacher-forced verdicts on a method's programs, by question id."""
    if isinstance(method.agent, Responder):
        return {}
    pairs = [(q, r.programs[0]) for q, r in zip(batch, responses, strict=True) if q.id in asked_for]
    verdicts = world.verdicts(pairs)
    return {question.id: verdict.right for (question, _), verdict in zip(pairs, verdicts, strict=True)}


def evaluate_oracle(
    world: LiveWorld,
    method: Method,
    questions: Sequence[Question],
    config: MctsConfig,
    results: Results,
    *,
    seed: int = 0,
    on_questions: OnQuestions = lambda _: None,
) -> None:
    """Search held-out questions with the gold answer in sight: the shortest right program found, as an upper bound.

    The search goes by teacher-forced verdicts; whether the row is right is the verifier's word on what the program
    writes.
    """
    measured = results.measured(method)
    for batch in (questions[i : i + _ORACLE_BATCH] for i in range(0, len(questions), _ORACLE_BATCH)):
        if batch[0].id in measured:
            continue
        with world.from_nothing():
            trees = search(world, batch, config, seed)
            best = {tree.question.id: best_programs(tree)[0] for tree in trees}
            answers = world.answers([q.ask for q in batch], [best[q.id] for q in batch])
        tried = {tree.question.id: len(tree.verdicts) for tree in trees}
        each = zip(batch, answers, strict=True)
        rows = [_row(world, method, q, Response(answer, (best[q.id],)), programs=tried[q.id]) for q, answer in each]
        results.append(rows)
        on_questions(len(batch))


def _row(
    world: LiveWorld,
    method: Method,
    question: Question,
    response: Response,
    forced: bool | None = None,
    programs: int | None = None,
) -> dict[str, Any]:
    answer, layers = response.answer, sum(map(len, response.programs)) + response.layers
    llm_flops = sum(world.answer_flops(question.ask, program, answer.tokens) for program in response.programs)
    return {
        "method_id": method.id,
        "method": method.name,
        "question_id": question.id,
        "task": question.task,
        "text": question.text,
        "gold": question.answer,
        "answer": answer.text,
        "right": answer_is_right(answer, question),
        "right_in_any_form": _in_any_form(answer, question) if method.name == IDENTITY else None,
        "forced": forced,
        "program": str(response.answered_by),
        "programs": len(response.programs) if programs is None else programs,
        "layers": layers,
        "cost": layers / world.depth,
        "log_prob": answer.log_prob,
        "confidence": answer.confidence,
        "flops": llm_flops + response.flops,
        "agent_flops": response.flops,
    }


def answer_is_right(answer: Answer, question: Question) -> bool:
    """Whether a written answer is right by the question's verifier, or a choice is the gold one."""
    return answer.text == question.answer if question.choices else is_right(answer.text, question)


def _in_any_form(answer: Answer, question: Question) -> bool:
    """The same, leniently: a choice also by the likelihood of all its tokens together."""
    if not question.choices:
        return is_right_in_any_form(answer.text, question)
    sums = answer.choice_log_probs
    other = bool(sums) and question.choices[max(range(len(sums)), key=sums.__getitem__)] == question.answer
    return other or answer_is_right(answer, question)
