"""The strongest static programs: growth of a race, and a choice that validation confirms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.runner import Verdict
from polar_env.traces import TraceSet, VerdictMatrix
from polar_env.worlds import World
from tests.planted import PlantedWorld
from tests.worlds import world_of
from train.baselines import choose_threshold
from train.block_influence import block_influence, without_weakest
from train.config import MatrixConfig
from train.matrix import race
from train.static import choose_static

IDENTITY, GOOD, LUCKY, OF_WORDS = (
    Program((0, 1, 2, 3)),
    Program((0, 1, 1, 2, 3)),
    Program((0, 2, 3)),
    Program((1, 2, 3)),
)
PROGRAMS = [IDENTITY, GOOD, LUCKY, OF_WORDS]


class AdditiveWorld(PlantedWorld):
    """Each layer that is repeated at once helps some more questions; any other change spoils all."""

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        made = []
        for question, program in pairs:
            helped = sum(one == other for one, other in pairwise(program.layers))
            needed = int(question.text.split()[1]) % 4
            made.append(Verdict(len(program) == 4 + helped and helped >= needed, 0.0))
        return made


def test_the_best_program_grows(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    questions = [Question.of(f"Say {n}", "1") for n in range(40)]
    survivors = {}
    for grow in (0, 2):
        world = AdditiveWorld(tiny_llm, Prompt(style="qa"))
        traces = TraceSet.create(tmp_path / str(grow), world, {})
        config = MatrixConfig(survivors=4, first_questions=16, layer_cost=0.0, grow=grow)
        survivors[grow] = race(world, questions, traces, config)
    most = {grow: max(len(program) for program in programs) for grow, programs in survivors.items()}
    assert most[0] == 5  # one layer repeated
    assert most[2] >= 7  # three or more of them, which are right for all questions


def questions_of(split: str, count: int) -> list[Question]:
    return [Question.of(f"{split} {n}", "1", task=("sums", "words")[n % 2]) for n in range(count)]


def verdict(question: Question, program: Program, lucky: bool) -> bool:
    """The good program helps everywhere, the lucky one on train only, the last one with words and nowhere else."""
    number = int(question.text.split()[1])
    return {
        IDENTITY: number % 10 < 3,
        GOOD: number % 10 < 5,
        LUCKY: lucky or number % 10 < 1,
        OF_WORDS: question.task == "words" and number % 10 < 9,
    }[program]


def test_validation_confirms_a_static_program() -> None:
    train, validation = questions_of("train", 200), questions_of("validation", 100)
    right = np.array([[verdict(question, program, lucky=True) for program in PROGRAMS] for question in train])
    matrix = VerdictMatrix([q.id for q in train], PROGRAMS, right, np.array([1.0, 1.25, 0.75, 0.75]))

    def verdicts(pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        return [Verdict(verdict(question, program, lucky=False), 0.0) for question, program in pairs]

    world = cast("World", SimpleNamespace(verdicts=verdicts))
    choice = choose_static(world, train, matrix, validation)
    assert choice.program == GOOD
    assert choice.by_task == {"sums": GOOD, "words": OF_WORDS}
    assert choice.finalists[0] == LUCKY  # the best on train, which validation drops
    assert choice.train_gain == pytest.approx(0.2)
    assert choice.validation_gain == pytest.approx(0.2)
    assert choice.questions == 300
    alone = choose_static(world, train, matrix, [])
    assert alone.program == LUCKY  # nothing there to confirm it


def test_a_static_program_that_helps_nowhere_is_the_identity() -> None:
    train = questions_of("train", 60)
    right = np.array([[verdict(q, p, lucky=False) for p in (IDENTITY, LUCKY)] for q in train])
    matrix = VerdictMatrix([q.id for q in train], [IDENTITY, LUCKY], right, np.array([1.0, 0.75]))
    choice = choose_static(cast("World", SimpleNamespace(verdicts=lambda _: [])), train, matrix, [])
    assert choice.program == IDENTITY
    assert set(choice.by_task.values()) == {IDENTITY}


def test_block_influence_is_that_of_the_models_own_hidden_states(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="qa"))
    asks = [Question.of(f"What is {n}?", "1").ask for n in range(3)]
    expected, tokens = np.zeros(4), 0
    for ask in asks:
        encoded = world.runner.encode_ask(ask, world.prompts[ask.task])
        states = [tiny_llm.embed(encoded.tokens[None])[0]]
        states += [tiny_llm.run(encoded.tokens[None], Program(tuple(range(n + 1))))[0] for n in range(4)]
        own = [state[-encoded.text.length :].double() for state in states]
        expected += [float((1 - torch.cosine_similarity(a, b, dim=-1)).sum()) for a, b in pairwise(own)]
        tokens += encoded.text.length
    assert block_influence(world, asks) == pytest.approx(expected / tokens, abs=1e-5)
    assert without_weakest(np.array([0.5, 0.1, 0.3, 0.2]), 2) == Program((0, 2))


def test_the_threshold_loses_next_to_nothing() -> None:
    """Sure and right after three layers on half of the questions; sure of nonsense below a confidence of 0.7."""
    questions = questions_of("validation", 40)

    def confidences(pairs: Sequence[Any]) -> np.ndarray:
        return np.array([[0.95 if ask.task == "sums" else 0.65, 0.0, 0.0] for ask, _ in pairs])

    def verdicts(pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        return [Verdict(question.task == "sums" or len(program) == 4, 0.0) for question, program in pairs]

    world: Any = SimpleNamespace(depth=4, asks=SimpleNamespace(confidences=confidences), verdicts=verdicts)
    assert choose_threshold(world, questions) == 0.7
