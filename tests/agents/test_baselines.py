"""Baselines that answer out of several runs, or stop early, on a planted world: what they must answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.base import Responder
from agents.card import save_agent
from agents.early_exit import EarlyExitAgent
from agents.ensemble import EnsembleAgent
from agents.fixed import TaskStaticAgent
from agents.registry import load_agent
from agents.sampling import SamplingAgent
from polar_env.errors import ConfigError, UnknownNameError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt
from polar_env.runner import Answer
from polar_env.worlds import AskWorld, LiveWorld
from tests.agents.test_agents import card_of
from tests.worlds import world_of

IDENTITY, SKIP = Program((0, 1, 2, 3)), Program((0, 1, 3))
ASKS = [Ask(f"ask {n}") for n in range(400)]


class PlantedAsks:
    """Greedy answers are wrong and unsure; a sample is right two times of three, and then surer."""

    depth, identity, read_out_flops = 4, IDENTITY, 7.0

    def answers(
        self, asks: Sequence[Ask], program: Program, temperature: float = 0.0, seeds: Sequence[int] = ()
    ) -> list[Answer]:
        if program == SKIP:
            return [Answer("right", 0.6, -0.5) for _ in asks]
        if not temperature:
            return [Answer("wrong", 0.3, -1.2) for _ in asks]
        lucky = [np.random.default_rng(seed).random() < 2 / 3 for seed in seeds]
        return [Answer("Right", 0.8, -0.2) if luck else Answer("odd", 0.2, -1.6) for luck in lucky]

    def confidences(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """Asks with an even number are clear after three layers, the others never."""
        sure = [0.9 if len(layers) == 3 and ask.text[-1] in "02468" else 0.1 for ask, layers in pairs]
        return np.array([[each, each, 0.0] for each in sure])


PLANTED = cast("AskWorld", PlantedAsks())


def share_right(agent: Responder, asks: Sequence[Ask] = ASKS) -> float:
    return float(np.mean([response.answer.text.lower() == "right" for response in agent.respond(asks)]))


def test_majority_and_confidence_use_the_samples() -> None:
    one, many = SamplingAgent(PLANTED, 1), SamplingAgent(PLANTED, 9)
    assert share_right(one) == 0
    assert share_right(many) > 0.9
    assert share_right(SamplingAgent(PLANTED, 2, "confidence")) == pytest.approx(2 / 3, abs=0.08)
    assert {len(response.programs) for response in many.respond(ASKS)} == {9}


def test_a_cost_between_two_numbers_is_met_on_average() -> None:
    for choose, cost, expected in (("confidence", 1.25, {1, 2}), ("majority", 1.25, {1, 3}), ("majority", 2, {1, 3})):
        runs = [len(response.programs) for response in SamplingAgent(PLANTED, cost, choose).respond(ASKS)]
        assert set(runs) == expected  # an even number has no majority
        assert np.mean(runs) == pytest.approx(cost, abs=0.06 if max(expected) == 2 else 0.15)
    with pytest.raises(ConfigError, match="the identity itself costs 1"):
        SamplingAgent(PLANTED, 0.9)


def test_samples_are_the_asks_own() -> None:
    agent = SamplingAgent(PLANTED, 4)
    assert agent.respond(ASKS[:9])[::-1] == agent.respond(ASKS[:9][::-1])
    assert agent.respond(ASKS) != SamplingAgent(PLANTED, 4, seed=1).respond(ASKS)


def test_an_ensemble_takes_the_surest_answer() -> None:
    agent = EnsembleAgent(PLANTED, [IDENTITY, SKIP])
    assert share_right(agent) == 1.0
    assert agent.respond(ASKS[:1])[0].programs == (IDENTITY, SKIP)
    with pytest.raises(ConfigError, match="has no programs"):
        EnsembleAgent(PLANTED, [])


def test_early_exit_stops_where_the_llm_is_sure() -> None:
    decisions = EarlyExitAgent(PLANTED, 0.5, first=1).decide(ASKS[:4])
    assert [len(decision.program) for decision in decisions] == [3, 4, 3, 4]
    assert [decision.flops for decision in decisions] == [14.0] * 4  # it looked after two layers and after three
    assert {len(d.program) for d in EarlyExitAgent(PLANTED, 0.95, first=1).decide(ASKS[:4])} == {4}
    with pytest.raises(ConfigError, match="above 0, at most 1"):
        EarlyExitAgent(PLANTED, 0)


def test_early_exit_at_1_never_stops_early() -> None:
    """Probabilities of nonsense reach 1 in float32; what no threshold saved must answer as the identity does."""

    class CertainAsks(PlantedAsks):
        def confidences(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
            return np.ones((len(pairs), 3), np.float32)

    certain = cast("AskWorld", CertainAsks())
    assert {decision.program for decision in EarlyExitAgent(certain, 1.0).decide(ASKS[:4])} == {IDENTITY}


def test_a_program_of_each_task() -> None:
    agent = TaskStaticAgent(IDENTITY, {"sums": SKIP})
    assert [d.program for d in agent.decide([Ask("a", "sums"), Ask("b", "words")])] == [SKIP, IDENTITY]


@pytest.fixture
def world(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=2))


def test_baselines_by_name(world: LiveWorld) -> None:
    asks = ASKS[:3]
    for name, runs in (("majority:3", 3), ("best-of:2", 2), ("ensemble:0-3|0-1 3", 2)):
        agent = load_agent(name, world)
        assert isinstance(agent, Responder)
        assert {len(response.programs) for response in agent.respond(asks)} == {runs}
    exits = load_agent("early-exit:0.01", world)
    assert isinstance(exits, EarlyExitAgent)
    assert {len(decision.program) for decision in exits.decide(asks)} == {3}
    with pytest.raises(ConfigError, match="'two' is no number"):
        load_agent("majority:two", world)
    for name in ("majority", "identity:1"):
        with pytest.raises(UnknownNameError, match="unknown agent"):
            load_agent(name, world)


def test_saved_baselines(world: LiveWorld, tmp_path: Path) -> None:
    for kind, config, expected in (
        ("ensemble", {"programs": ["0-3", "0-1 3"]}, EnsembleAgent),
        ("early-exit", {"threshold": 0.7}, EarlyExitAgent),
        ("static-per-task", {"program": "0-3", "by_task": {"sums": "0-1 3"}}, TaskStaticAgent),
    ):
        save_agent(card_of(world, kind, config=config), tmp_path / kind, {})
        assert isinstance(load_agent(str(tmp_path / kind), world), expected)
