"""Training as a whole: stopped it goes on, finished it stays, and another training is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.card import read_card
from agents.policy.agent import WEIGHTS, PolicyAgent
from agents.registry import load_agent
from agents.search.config import MctsConfig
from polar_env.envs import EnvConfig
from polar_env.errors import FingerprintError, ProgramError
from polar_env.llm import FrozenLLM
from polar_env.questions import Prompt, twin_hash
from polar_env.traces import TraceSet
from tests.planted import PlantedWorld, planted_questions
from train.collect import LocalEngine, search_traces
from train.config import ImitationConfig, MatrixConfig, PPOConfig, TrainingConfig
from train.matrix import race
from train.pipeline import Report, TrainedAgents, train_agents

CONFIG = TrainingConfig(
    env=EnvConfig(language="segments"),
    imitation=ImitationConfig(value_layers=0, epochs=2),
    ppo=PPOConfig(lanes=8, steps=16, batch_size=64, total_steps=512, validate_every=1, learning_rate=1e-3),
)
QUESTIONS = planted_questions(30)
TRACED = planted_questions(60)[-1]
"""A question that chose programs though nothing is trained on it."""


@pytest.fixture
def world(tiny_llm: FrozenLLM, tmp_path: Path) -> tuple[PlantedWorld, TraceSet]:
    world = PlantedWorld(tiny_llm, Prompt(style="qa"))
    traces = TraceSet.create(tmp_path / "traces", world, {})
    search_traces(LocalEngine(world), QUESTIONS[:6], traces, MctsConfig(simulations=20))
    race(world, QUESTIONS[:20], traces, MatrixConfig(candidates=20, survivors=6, first_questions=10))
    return world, traces


def train(
    world: tuple[PlantedWorld, TraceSet], folder: Path, report: Report, config: TrainingConfig = CONFIG
) -> TrainedAgents:
    world, traces = world
    return train_agents(
        world, QUESTIONS[:20], QUESTIONS[20:], traces, folder, config, ["planted"], report, traced=[TRACED]
    )


def test_stopped_training_goes_on_and_finished_training_stays(
    world: tuple[PlantedWorld, TraceSet], tmp_path: Path
) -> None:
    steps: list[tuple[str, int]] = []

    def stop(phase: str, step: int, _: dict[str, float]) -> None:
        if phase == "ppo" and step >= 256:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(world, tmp_path, stop)
    kept = json.loads((tmp_path / "checkpoints" / "state.json").read_text())
    assert kept["steps"] >= 256
    done = train(world, tmp_path, lambda phase, step, _: steps.append((phase, step)))
    assert steps[0] == ("resumed", kept["steps"])
    assert not list(tmp_path.rglob("*.zip"))  # nothing is pickled
    assert steps[-1] == ("ppo", 512)
    card = read_card(tmp_path / "agents" / "ppo")
    assert card.results["validation"]["reward"] == pytest.approx(done.final.reward)
    warm = read_card(tmp_path / "agents" / "imitation")
    assert card.results["validation"]["reward"] >= warm.results["validation"]["reward"]
    assert 0 <= card.results["chosen_step"] <= 512
    assert len(card.train_asks) == 21
    assert twin_hash(TRACED.ask) in card.train_asks
    assert len(card.validation_asks) == 10
    before = (tmp_path / "agents" / "ppo" / WEIGHTS).read_bytes()
    steps.clear()
    again = train(world, tmp_path, lambda phase, step, _: steps.append((phase, step)))
    assert steps == [("finished before", 512)]
    assert again == done
    assert (tmp_path / "agents" / "ppo" / WEIGHTS).read_bytes() == before


def test_baselines_lie_beside_the_agents(world: tuple[PlantedWorld, TraceSet], tmp_path: Path) -> None:
    """Every one of them loads, and its card names the questions of the training."""
    train(world, tmp_path, lambda *_: None)
    names = {folder.name for folder in (tmp_path / "agents").iterdir()}
    baselines = {"best-static", "best-static-per-task", "ensemble", "shortgpt-10", "shortgpt-25", "early-exit"}
    assert names == baselines | {"imitation", "ppo"}
    ppo = read_card(tmp_path / "agents" / "ppo")
    for name in baselines:
        assert load_agent(str(tmp_path / "agents" / name), world[0])
        card = read_card(tmp_path / "agents" / name)
        assert card.train_asks == ppo.train_asks
        assert card.results["best-static-per-task"].keys() == {"sums", "products"}


def test_another_training_in_the_same_folder_is_refused(world: tuple[PlantedWorld, TraceSet], tmp_path: Path) -> None:
    train(world, tmp_path, lambda *_: None)
    with pytest.raises(FingerprintError, match="differs in: seed, config"):
        train(world, tmp_path, lambda *_: None, CONFIG.model_copy(update={"seed": 1}))


def test_wrong_settings_leave_nothing_behind(world: tuple[PlantedWorld, TraceSet], tmp_path: Path) -> None:
    wrong = CONFIG.model_copy(update={"env": EnvConfig(language="segments", window=None, max_layers=3)})
    with pytest.raises(ProgramError, match="max_layers allows 3"):
        train(world, tmp_path / "run", lambda *_: None, wrong)
    assert not (tmp_path / "run" / "agents").exists()


def test_a_saved_agent_decides_as_before(world: tuple[PlantedWorld, TraceSet], tmp_path: Path) -> None:
    train(world, tmp_path, lambda *_: None)
    planted, _ = world
    asks, decided = [question.ask for question in QUESTIONS], []
    for _ in range(2):
        agent = load_agent(str(tmp_path / "agents" / "ppo"), planted)
        assert isinstance(agent, PolicyAgent)
        agent.programs = 2
        decided.append(agent.decide(asks))
    assert decided[0] == decided[1]
    assert all(len(decision.programs) == 2 for decision in decided[0])
