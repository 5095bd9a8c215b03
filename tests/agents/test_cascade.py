"""Selector and cascade on a planted world: which answer they believe, when they stop, and what it costs is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from agents.base import Decision, Responder
from agents.cascade import CascadeAgent
from agents.fixed import StaticAgent
from agents.registry import find_agents, load_agent
from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt
from polar_env.runner import Answer
from polar_env.worlds import AskWorld
from tests.worlds import world_of

FIRST, SECOND, THIRD = Program((0, 1)), Program((0, 2)), Program((0, 3))
ASKS = [Ask("easy"), Ask("hard")]
SAID = {
    ("easy", FIRST): Answer("four", 0.95, -0.1, 2),
    ("easy", SECOND): Answer("five", 0.99, -0.05, 2),
    ("hard", FIRST): Answer("six", 0.3, -3.0, 2),
    ("hard", SECOND): Answer("nine", 0.8, -0.4, 2),
    ("hard", THIRD): Answer("ten", 0.2, -5.0, 2),
    ("easy", THIRD): Answer("none", 0.1, -6.0, 2),
}


class PlantedAsks:
    """Writes what `SAID` says."""

    def answers(self, asks: Sequence[Ask], programs: Sequence[Program]) -> list[Answer]:
        return [SAID[ask.text, program] for ask, program in zip(asks, programs, strict=True)]


class Ranking:
    """Ranks three programs; it is much surer of the first."""

    name = "ranking"

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        return [Decision((FIRST, SECOND, THIRD), (0.6, 0.3, 0.1), layers=1, flops=5.0) for _ in asks]


PLANTED = cast("AskWorld", PlantedAsks())


def test_a_selector_weighs_the_program_against_the_answer() -> None:
    easy, hard = CascadeAgent(PLANTED, Ranking(), runs=2).respond(ASKS)
    assert (easy.answer.text, hard.answer.text) == ("four", "nine")  # 0.6 - 0.1 > 0.3 - 0.05, and 0.6 - 3.0 < 0.3 - 0.4
    assert easy.programs == hard.programs == (FIRST, SECOND)
    assert (easy.layers, easy.flops) == (1, 5.0)  # deciding is counted once


def test_a_cascade_runs_on_only_where_it_is_unsure() -> None:
    easy, hard = CascadeAgent(PLANTED, Ranking(), runs=3, sure=0.9).respond(ASKS)
    assert easy.programs == (FIRST,)
    assert hard.programs == (FIRST, SECOND, THIRD)  # none was sure enough
    assert hard.answer.text == "nine"
    assert [len(each.programs) for each in CascadeAgent(PLANTED, Ranking(), 3, 0.7).respond(ASKS)] == [1, 2]


def test_an_agent_of_one_program_has_one_answer(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="qa", max_new_tokens=2))
    inner = StaticAgent(world.identity)
    (response,) = CascadeAgent(world.asks, inner).respond(ASKS[:1])
    assert response.programs == (world.identity,)
    assert response.answer == world.answers(ASKS[:1], world.identity)[0]


def test_without_probabilities_the_answers_alone_are_weighed() -> None:
    class Silent(Ranking):
        def decide(self, asks: Sequence[Ask]) -> list[Decision]:
            return [Decision.of(FIRST, SECOND) for _ in asks]

    easy, hard = CascadeAgent(PLANTED, Silent()).respond(ASKS)
    assert (easy.answer.text, easy.answered_by) == ("five", SECOND)
    assert (hard.answer.text, hard.answered_by) == ("nine", SECOND)


def test_by_name(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="qa", max_new_tokens=2))
    agent = load_agent("selector:2|static:0-1 3", world)
    assert isinstance(agent, Responder)
    assert agent.name == "selector 2 of static 0-1 3"
    assert agent.respond(ASKS)[0].programs == (Program((0, 1, 3)),)
    assert find_agents("selector:2|skills") == find_agents("skills") == find_agents("cascade:0.9|skills@1.8")
    for name in ("selector:2", "cascade:0.9|majority:3"):
        with pytest.raises(ConfigError, match="names no agent that ranks programs"):
            load_agent(name, world)
    for number in ("0", "2.5", "nan", "inf", "-1", ""):
        with pytest.raises(ConfigError, match="is not a number of runs"):
            load_agent(f"selector:{number}|identity", world)
    for number in ("0", "-1", "7", "nan"):
        with pytest.raises(ConfigError, match="is not a confidence"):
            load_agent(f"cascade:{number}|identity", world)
    with pytest.raises(ConfigError, match="is no number"):
        load_agent("cascade:x|identity", world)
