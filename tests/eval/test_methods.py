"""What counts as one method, one training, one agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.base import Decision
from agents.card import read_card, save_agent
from agents.fixed import StaticAgent
from eval.evaluate import evaluate
from eval.methods import Method, method_of, methods_of
from eval.pairs import last_method
from eval.program_card import write_card
from eval.results import Results
from polar_env.errors import UnknownNameError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.worlds import LiveWorld
from tests.agents.test_agents import card_of
from tests.worlds import world_of

SKIP = Program((0, 1, 3))


@dataclass
class Learned:
    """A learned agent, as far as reports can see."""

    name: str

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        return [Decision.of(SKIP) for _ in asks]


@pytest.fixture
def world(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=3))


@pytest.fixture(autouse=True)
def planted_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards of the kind "planted" make a `Learned`."""
    monkeypatch.setattr("agents.registry.LOADERS.get", lambda _: lambda folder, card, asks: Learned(card.name))


def saved(world: LiveWorld, folder: Path, weights: bytes = b"", **changes: object) -> Path:
    save_agent(card_of(world, "planted", **changes), folder, {"weights.safetensors": weights})
    return folder


def results_of(world: LiveWorld, questions: list[Question], methods: list[Method], folder: Path) -> Results:
    results = Results(folder / "results")
    results.begin(world, questions, methods, {})
    evaluate(world, methods, questions, results)
    return results


@pytest.mark.parametrize(("step", "rows"), [(0, ["ppo"]), (512, ["imitation", "ppo"])])
def test_a_warm_start_that_stayed_as_it_was_is_one_row(
    world: LiveWorld, tmp_path: Path, step: int, rows: list[str]
) -> None:
    saved(world, tmp_path / "imitation", b"start", name="imitation", results={"chosen_step": 0})
    saved(world, tmp_path / "ppo", b"moved" if step else b"start", name="ppo", results={"chosen_step": step})
    agents = [each for each in methods_of(world, [str(tmp_path)], {}, 0) if each.role == "agent"]
    assert [each.name for each in agents] == rows
    assert agents[-1].remark.startswith("the policy of step 512" if step else "the warm start, unchanged")
    apart = methods_of(world, [str(tmp_path / "imitation"), str(tmp_path / "ppo")], {}, 0)
    assert [each.name for each in apart if each.role == "agent"] == rows


def test_trainings_that_differ_in_the_seed_alone_are_one_agent(
    world: LiveWorld, questions: list[Question], tmp_path: Path
) -> None:
    def trained(name: str, seed: int, **changes: object) -> Method:
        config = {"seed": seed, "lanes": 8} | changes
        folder = saved(world, tmp_path / name, name="ppo", seed=seed, config=config)
        return Method(name, name, Learned(name), card=read_card(folder))

    again = [trained("first", 0), trained("second", 1), trained("second again", 1, lanes=8)]
    other = [trained("other", 2, lanes=16)]
    results = results_of(world, questions[:2], [*again, *other], tmp_path)
    assert results.families() == {"ppo": ["first", "second"]}
    more = [*again, *other, trained("other still", 3, lanes=16)]
    families = results_of(world, questions[:2], more, tmp_path / "more").families()
    assert list(families.values()) == [["first", "second"], ["other", "other still"]]
    assert all(name.startswith("ppo ") for name in families)  # the name alone would not tell which


def test_a_card_is_of_the_very_agent_in_a_folder(world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    measured, other = (
        saved(world, tmp_path / "agents" / "ppo", name="ppo"),
        saved(world, tmp_path / "other", name="ppo"),
    )
    save_agent(read_card(other).model_copy(update={"seed": 4}), other, {})
    static = method_of(StaticAgent(SKIP, "best-static"))
    results = results_of(world, questions, [static, method_of(Learned("ppo"), measured)], tmp_path)
    _, card = write_card(results, str(measured), tmp_path / "card")
    assert (card["method"], card["chosen_on"]["seed"]) == ("ppo", 3)
    assert "Fewer than 300 questions stand behind this choice" in (tmp_path / "card" / "card.md").read_text()
    with pytest.raises(UnknownNameError, match="unknown method"):
        write_card(results, str(other), tmp_path / "card")
    saved(world, tmp_path / "agents" / "imitation")
    with pytest.raises(UnknownNameError, match="several agents; give one of them"):
        write_card(results, str(tmp_path), tmp_path / "card")


def test_the_best_static_program_may_be_the_identity(
    world: LiveWorld, questions: list[Question], tmp_path: Path
) -> None:
    identity = Method(
        "i", "identity", StaticAgent(world.identity, "identity"), "static", "also the best static program"
    )
    results = results_of(world, questions, [identity], tmp_path)
    assert write_card(results, "best-static", tmp_path / "card")[1]["method"] == "identity"


def test_a_folder_is_about_its_agent_or_what_answered_everything(
    world: LiveWorld, questions: list[Question], tmp_path: Path
) -> None:
    identity = method_of(StaticAgent(world.identity, "identity"))
    few = Method("r", "random", Learned("random"), "baseline", limit=1)
    assert last_method(results_of(world, questions, [identity, few], tmp_path)) == "identity"
    agent = Method("a", "mine", Learned("mine"))
    assert last_method(results_of(world, questions, [identity, agent, few], tmp_path / "2")) == "mine"
