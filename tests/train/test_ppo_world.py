"""The program predictor starts as the value agent, and PPO mends a value model that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from agents.base import Priced
from agents.card import read_card
from agents.menu import MenuAgent
from agents.perceptron import Perceptron
from agents.predictor import PredictorAgent
from agents.registry import load_agent
from agents.value import ValueAgent
from eval.at_prices import at_prices, price_table
from polar_env.errors import ConfigError, LeakError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.runtime import torch_threads
from polar_env.worlds import RecordedWorld
from tests.planted import planted_questions
from tests.recording import made_world, recorded_world
from tests.worlds import world_of
from train.config import PredictorConfig, TrialsConfig, ValueConfig
from train.crossfit import cross_fitted
from train.judged import judge
from train.predictor import fit_predictor, improve, train_predictor
from train.priced_menu import PricedMenu
from train.reference import Task, by_scores
from train.trials import TRIALS, train_trials

PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3)), Program((0, 2, 3)), Program((0, 3))]
VALUE = ValueConfig(look=0, menu=5, ridge=0.1, scale=1.0, price=0.1, most_doubt=0.99, folds=4)
CONFIG = PredictorConfig(
    value=VALUE,
    most_price=2.0,
    lanes=256,
    steps=2,
    batch_size=128,
    learning_rate=3e-3,
    total_steps=40_000,
    kl=0.02,
)


def planted(count: int = 300, useful: float = 1.0) -> RecordedWorld:
    """The first number of a state says which program is right; the identity often is, and so is one short program."""
    rng = np.random.default_rng(0)
    questions = [
        Question.of(f"What is {n}?", "1", task="a", split=("train", "train", "validation", "test")[n % 4])
        for n in range(count)
    ]
    codes = rng.normal(size=(count, 1, 8)).astype(np.float16)
    codes[:, 0, 0] *= 3 * useful
    state = codes[:, 0, 0]
    luck = rng.random((count, 5))
    right = np.stack([luck[:, 0] < 0.3, state > 0.5, state < -0.5, luck[:, 3] < 0.2, luck[:, 4] < 0.25], axis=1)
    return made_world(questions, PROGRAMS, right, codes)


@pytest.fixture(scope="module")
def world() -> RecordedWorld:
    return planted()


def asks_of(world: RecordedWorld, split: str) -> list[Ask]:
    return [world.questions[row].ask for row in world.rows(split)]


def start_of(agent: PredictorAgent) -> ValueAgent:
    """The value agent that a predictor corrects."""
    return ValueAgent(
        agent.world, agent.programs, agent.model, look=agent.look, price=agent.price, most_doubt=agent.most_doubt,
        calibration=agent.calibration,
    )  # fmt: skip


def test_at_first_it_decides_as_the_value_agent(world: RecordedWorld) -> None:
    config = CONFIG.model_copy(update={"total_steps": 0})
    agent = fit_predictor(world, world.rows("train"), config, seed=0)
    value, asks = start_of(agent), asks_of(world, "test")
    for price in (0.0, 0.1, 1.0, 9.0):
        ours, theirs = agent.at_price(price).decide(asks), value.at_price(price).decide(asks)
        assert [each.programs for each in ours] == [each.programs for each in theirs]
        assert [each.confidences for each in ours] == [each.confidences for each in theirs]
    policy = improve(cross_fitted(world, world.rows("train"), VALUE, 0), config, seed=0)
    fitted = cross_fitted(world, world.rows("train"), VALUE, 0)
    env = PricedMenu(fitted, 64, most_price=2.0, most_doubt=0.99)
    env.seed(0)
    actions, _ = policy.predict(env.reset(), deterministic=True, action_masks=env.action_masks())
    worth = fitted.values[env.rows] - env.prices[:, None] * fitted.costs
    worth[~env.action_masks()] = -np.inf
    assert actions.tolist() == worth.argmax(1).tolist()


def test_predictions_are_cross_fitted(world: RecordedWorld) -> None:
    """Within the questions that a model was fitted on it looks better than it is."""
    fitted = cross_fitted(world, world.rows("train"), VALUE.model_copy(update={"ridge": 0.01}), seed=0)
    own = fitted.model.predict(fitted.observations)
    error, too_good = (np.abs(values - fitted.worth).mean() for values in (fitted.values, own))
    assert too_good < 0.7 * error


def test_each_question_has_its_price(world: RecordedWorld) -> None:
    fitted = cross_fitted(world, world.rows("train"), VALUE, seed=0)
    env = PricedMenu(fitted, 32, most_price=2.0, most_doubt=-1.0)
    env.seed(1)
    observations = env.reset()
    rows, prices = env.rows, env.prices
    assert observations[:, 0] == pytest.approx(prices)
    assert prices.max() > 1.5 > 0.5 > prices.min()
    assert env.action_masks().sum(1).tolist() == [1] * 32  # all are doubtful: the identity alone
    env.step_async(np.full(32, 1))
    _, rewards, dones, _ = env.step_wait()
    assert rewards == pytest.approx(fitted.worth[rows, 1] - prices * fitted.costs[1], abs=1e-6)
    assert dones.all()


@pytest.mark.parametrize("handicap", ["scale", "ridge"])
def test_ppo_mends_a_value_model_that_is_wrong(world: RecordedWorld, handicap: str) -> None:
    """Its kernel is far too wide or its ridge far too strong, so that it hardly tells questions apart."""
    value = VALUE.model_copy(update={handicap: 1e4, "most_doubt": 2.0})
    rows, test = world.rows("train+validation"), world.rows("test")
    agent = fit_predictor(world, rows, CONFIG.model_copy(update={"value": value, "kl": 0.0}), seed=0)
    before, after = judge(world, start_of(agent), rows, test), judge(world, agent, rows, test)
    assert after["pass_at_1"] > before["pass_at_1"] + 0.1
    assert after["pass_at_1"] > after["static_pass_at_1"] + 0.1


def test_saved_it_decides_the_same_and_the_price_is_a_dial(world: RecordedWorld, tmp_path: Path) -> None:
    folder = train_predictor(world, tmp_path, CONFIG, seed=3)
    assert folder == tmp_path / "agents" / "ppo"
    loaded, asks = load_agent(str(folder), world), asks_of(world, "test")
    again = fit_predictor(world, world.rows("train+validation"), CONFIG, seed=3)
    assert isinstance(loaded, PredictorAgent)
    assert isinstance(loaded, Priced)
    for ours, theirs in zip(loaded.decide(asks), again.decide(asks), strict=True):
        assert ours.programs == theirs.programs
        assert ours.confidences == pytest.approx(theirs.confidences, abs=1e-4)
    costs = []
    for price in (0, 0.5, 1, 2, 4):
        priced = load_agent(f"{folder}@{price}", world)
        assert isinstance(priced, PredictorAgent)
        assert priced.name == f"ppo@{price:g}"
        costs.append(np.mean([len(each.program) + each.layers for each in priced.decide(asks)]))
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]
    card = read_card(folder)
    assert (card.kind, card.name) == ("predictor", "ppo")
    assert len(card.train_asks) + len(card.validation_asks) == len(world.rows("train+validation"))
    assert card.results["validation"]["questions"] == len(world.rows("validation"))
    assert (tmp_path / "agents" / "best-static" / "agent.json").is_file()


def test_in_doubt_the_identity_answers(world: RecordedWorld) -> None:
    agent = fit_predictor(world, world.rows("train"), CONFIG.model_copy(update={"total_steps": 512}), seed=0)
    agent.most_doubt = 0.0
    assert {each.program for each in agent.decide(asks_of(world, "test"))} == {PROGRAMS[0]}


def test_batches_divide_rollouts() -> None:
    with pytest.raises(ConfigError, match="batch_size 100 does not divide lanes \\* steps = 4096"):
        PredictorConfig.of({"batch_size": 100}, "test")


def test_an_agent_needs_the_texts_of_its_questions(world: RecordedWorld, tmp_path: Path) -> None:
    card = world.card.model_copy(update={"texts": False})
    with pytest.raises(ConfigError, match="holds no texts"):
        train_predictor(RecordedWorld(card, world.questions, world.arrays, world.reduction), tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["grpo", "linucb", "thompson"])
def test_learners_from_nothing_become_agents(world: RecordedWorld, tmp_path: Path, name: str) -> None:
    config = TrialsConfig(value=VALUE, steps=3_000)
    folder = train_trials(world, tmp_path, name, config)
    agent, rows = load_agent(str(folder), world), world.rows("test")
    assert isinstance(agent, MenuAgent)
    judged = judge(world, agent, world.rows("train"), rows)
    assert judged["pass_at_1"] > judged["static_pass_at_1"] + 0.1
    task = Task(world, "train+validation", VALUE, 3_000)
    with torch_threads(1):
        policy = by_scores(task, TRIALS[name](task, 0))
    chosen = [world.column(decision.program) for decision in agent.decide(asks_of(world, "test"))]
    assert chosen == policy(rows).tolist()


def test_agents_are_compared_at_prices(world: RecordedWorld, tmp_path: Path) -> None:
    for name, total in (("still", 0), ("moved", 40_000)):
        train_predictor(world, tmp_path / name, CONFIG.model_copy(update={"total_steps": total}))
    still, moved = (str(tmp_path / name / "agents" / "ppo") for name in ("still", "moved"))
    (alike,) = at_prices(world, [still], still, PROGRAMS[1], [0.5])
    assert (alike.vs_base.value, alike.reward_vs_base.value) == (0.0, 0.0)
    rows = world.rows("test")
    right = world.arrays["right"][rows, 1].mean()
    assert alike.vs_static.value == pytest.approx(alike.pass_at_1 - right)
    (each,) = at_prices(world, [still, moved], still, PROGRAMS[1], [0.5])
    (other,) = at_prices(world, [moved], still, PROGRAMS[1], [0.5])
    assert each.vs_base.value == pytest.approx(other.vs_base.value / 2)
    assert other.reward_vs_base.value == pytest.approx(
        other.pass_at_1 - other.base_pass_at_1 - 0.5 * (other.cost - other.base_cost)
    )
    assert price_table([each]).rows[0][0] == "0.5"
    with pytest.raises(LeakError):
        at_prices(world, [still], still, PROGRAMS[1], [0.5], split="train")
    with pytest.raises(ConfigError, match="has no price"):
        at_prices(world, [str(tmp_path / "still" / "agents" / "best-static")], still, PROGRAMS[1], [0.5])


def test_a_perceptron_takes_raw_inputs_and_survives_saving() -> None:
    rng = np.random.default_rng(0)
    weights, offsets = rng.normal(size=(4, 5)).astype(np.float32).T, np.ones(4, np.float32)
    last = rng.normal(size=(4, 3)).astype(np.float32), np.zeros(3, np.float32)
    seen = rng.normal(size=(7, 5)).astype(np.float32)
    plain = Perceptron(((weights, offsets), last))
    raw = Perceptron.standardised(plain.maps, seen.mean(0), 2.0)
    expected = np.tanh((seen - seen.mean(0)) / 2 @ weights + 1) @ last[0]
    assert raw.scores(seen) == pytest.approx(expected, abs=1e-5)
    assert Perceptron.of(load(save(raw.arrays()))).scores(seen) == pytest.approx(expected, abs=1e-5)


def test_it_decides_the_same_live_and_recorded(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    live = world_of(tiny_llm, Prompt(style="qa", max_new_tokens=2))
    questions = [
        replace(question, split=("train", "train", "validation", "test")[n // 2 % 4])
        for n, question in enumerate(planted_questions(80))
    ]
    recorded = recorded_world(live, questions, PROGRAMS, tmp_path / "recording", components=16)
    value = VALUE.model_copy(update={"look": 2, "price": 0.3})
    folder = train_predictor(recorded, tmp_path, CONFIG.model_copy(update={"value": value, "total_steps": 2_000}))
    asks = asks_of(recorded, "test")
    here, there = (load_agent(str(folder), world) for world in (live, recorded))
    assert isinstance(here, PredictorAgent)
    assert isinstance(there, PredictorAgent)
    assert [each.program for each in here.decide(asks)] == [each.program for each in there.decide(asks)]
