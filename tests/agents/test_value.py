"""The value agent reads a state and chooses the program that is right there, at the price it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.card import read_card
from agents.registry import load_agent
from agents.value import Calibration, ValueAgent, ValueModel
from eval.evaluate import respond
from eval.leaks import refuse_leaks
from eval.methods import methods_of
from eval.on_record import score_agents
from polar_env.errors import ConfigError, FingerprintError, LeakError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Prompts
from polar_env.worlds import LiveWorld, RecordedWorld, ReducedAsks, Reduction
from tests.planted import PRODUCTS, SUMS, best_program, planted_questions
from tests.recording import recorded_world
from tests.worlds import world_of
from train.config import ValueConfig
from train.value import calibrate, choose_menu, out_of_fold, train_value

PROMPT = Prompt(style="qa", max_new_tokens=2)
PROGRAMS = [Program((0, 1, 2, 3)), SUMS, PRODUCTS, Program((0, 2, 3)), Program((1, 2, 3))]
CONFIG = ValueConfig(look=2, menu=3, ridge=0.1, scale=1.0, price=0.1, most_doubt=0.95, folds=4)


@pytest.fixture(scope="module")
def live(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, PROMPT)


@pytest.fixture(scope="module")
def recorded(live: LiveWorld, tmp_path_factory: pytest.TempPathFactory) -> RecordedWorld:
    """Real states, planted verdicts: one program is right for sums, another one for products."""
    folder, questions = tmp_path_factory.mktemp("recording"), planted_questions(160)
    questions = [
        replace(question, split=("train", "train", "validation", "test")[n // 2 % 4])
        for n, question in enumerate(questions)
    ]
    world = recorded_world(live, questions, PROGRAMS, folder, components=16)
    right = np.array([[program == best_program(q) for program in PROGRAMS] for q in world.questions])
    arrays = world.arrays | {"right": right, "log_prob": np.where(right, 0, -9).astype(np.float16)}
    return RecordedWorld(world.card, world.questions, arrays, world.reduction)


@pytest.fixture(scope="module")
def trained(recorded: RecordedWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_value(recorded, tmp_path_factory.mktemp("run"), CONFIG).folder


def test_it_learns_which_program_a_question_wants(recorded: RecordedWorld) -> None:
    judged = out_of_fold(recorded, np.arange(len(recorded.questions)), CONFIG, seed=0)
    assert judged.right.mean() > 0.9
    assert judged.static_right.mean() == pytest.approx(0.5, abs=0.1)
    assert judged.costs.mean() == pytest.approx(1.0, abs=0.05)  # half skip a layer, half repeat one


def test_decisions_are_the_same_live_and_recorded(live: LiveWorld, recorded: RecordedWorld, trained: Path) -> None:
    """The agent that learned from the table runs on the LLM, unchanged."""
    agent = load_agent(str(trained / "value"), live)
    assert isinstance(agent, ValueAgent)
    asks = [recorded.questions[row].ask for row in recorded.rows("test")]
    on_table = load_agent(str(trained / "value"), recorded).decide(asks)  # type: ignore[union-attr]
    on_llm = agent.decide(asks)
    assert [decision.program for decision in on_llm] == [decision.program for decision in on_table]
    assert len({decision.program for decision in on_llm}) == 2
    right = [best_program(recorded.questions[row]) for row in recorded.rows("test")]
    assert np.mean([d.program == best for d, best in zip(on_llm, right, strict=True)]) > 0.9
    responses = respond(agent, live, asks[:3])
    assert [response.programs[0] for response in responses] == [decision.program for decision in on_llm[:3]]


def test_on_another_record_its_states_mean_nothing(recorded: RecordedWorld, trained: Path) -> None:
    states = np.random.default_rng(0).normal(size=(40, 3, 2, 64)).astype(np.float32)
    other = RecordedWorld(
        recorded.card,
        recorded.questions,
        recorded.arrays,
        Reduction.fit(states, recorded.card.depths, recorded.reduction.bases.shape[-1]),
    )
    with pytest.raises(FingerprintError, match="reads states reduced in another way"):
        load_agent(str(trained / "value"), other)


def test_agents_are_scored_on_the_record(recorded: RecordedWorld, trained: Path) -> None:
    scores = score_agents(recorded, [str(trained)], PROGRAMS[1], {"sums": PROGRAMS[1], "products": PROGRAMS[2]})
    assert list(scores) == ["identity", "best-static", "best-static-per-task", "value"]
    assert scores["best-static"].score.value == 0.0
    assert scores["value"].pass_at_1 > 0.9 > scores["best-static"].pass_at_1
    dear = score_agents(recorded, [f"{trained}@30"], PROGRAMS[1], {})
    assert dear["value@30"].mean_cost < scores["value"].mean_cost
    assert "best-static" in dear  # has no price and stays as it is
    with pytest.raises(LeakError, match="train questions of the agent"):
        score_agents(recorded, [str(trained)], PROGRAMS[1], {}, split="train")
    with pytest.raises(ConfigError, match="without --world"):
        score_agents(recorded, ["best-of:2"], PROGRAMS[1], {})


def test_layers_that_ran_in_vain_are_counted(live: LiveWorld, trained: Path) -> None:
    agent = load_agent(str(trained / "value"), live)
    assert isinstance(agent, ValueAgent)
    late = ValueAgent(
        agent.world, PROGRAMS, replace(agent.model, weights=np.zeros((len(agent.model.support), 5), np.float32),
                                       means=np.array([0, 0, 0, 0, 1], np.float32)),
        look=2, price=0.0, most_doubt=1.0, calibration=agent.calibration,
    )  # fmt: skip
    (decision,) = late.decide([planted_questions(2)[0].ask])
    assert decision.program == PROGRAMS[4]
    assert decision.layers == 2  # layers 0 and 1 ran; the program begins with 1
    assert decision.flops > 0


def test_the_price_is_a_dial(live: LiveWorld, trained: Path) -> None:
    asks, costs = [question.ask for question in planted_questions(20)], []
    for price in ("0", "1", "30.0"):
        agent = load_agent(f"{trained / 'value'}@{price}", live)
        assert isinstance(agent, ValueAgent)
        assert (agent.price, agent.name) == (float(price), f"value@{float(price):g}")
        costs.append(np.mean([len(decision.program) + decision.layers for decision in agent.decide(asks)]))
    assert costs[0] > costs[-1]
    assert costs == sorted(costs, reverse=True)
    names = [f"{trained / 'value'}{price}" for price in ("", "@0.5", "@1")]
    methods = methods_of(live, names, {}, seed=0)
    assert len({method.id for method in methods}) == len(methods)
    assert {"value", "value@0.5", "value@1"} <= {method.name for method in methods}
    with pytest.raises(ConfigError, match=r"has no price of layers to set; leave out '@0.5'"):
        load_agent(f"{trained / 'best-static'}@0.5", live)


def test_far_from_all_asks_the_best_mean_is_chosen() -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(40, 3)).astype(np.float32)
    targets = np.stack([observations[:, 0] > 0, np.full(40, 0.7)], axis=1).astype(float)
    model = ValueModel.fit(observations, targets, ridge=0.1, scale=1.0)
    assert (model.predict(observations).argmax(1) == (observations[:, 0] < 0)).mean() > 0.8
    far = np.full((1, 3), 1e3, np.float32)
    assert model.predict(far)[0] == pytest.approx(targets.mean(0), abs=1e-6)
    assert model.doubt(far)[0] == pytest.approx(1.0)
    assert model.doubt(observations).max() < 0.2
    with pytest.raises(ConfigError, match="all 2 observations are alike"):
        ValueModel.fit(np.ones((2, 3), np.float32), np.ones((2, 1)), ridge=1.0, scale=1.0)


def test_doubt_is_what_one_more_observation_would_take_away() -> None:
    """Against the textbook: the variance of a Gaussian process from the inverse of its whole kernel."""
    rng = np.random.default_rng(1)
    observations, asked = (rng.normal(size=(count, 3)).astype(np.float32) for count in (12, 5))
    model = ValueModel.fit(observations, rng.normal(size=(12, 2)), ridge=0.4, scale=1.0)
    everything = np.concatenate([observations, asked]).astype(float)
    kernel = np.exp(-((everything[:, None] - everything) ** 2).sum(-1) / model.width)
    inverse = np.linalg.inv(kernel[:12, :12] + 0.4 * np.eye(12))
    for row in range(5):
        near = kernel[12 + row, :12]
        assert model.doubt(asked)[row] == pytest.approx(1 - near @ inverse @ near, abs=1e-6)


def test_where_little_is_known_the_identity_answers(live: LiveWorld, trained: Path) -> None:
    agent = load_agent(str(trained / "value"), live)
    assert isinstance(agent, ValueAgent)
    asks = [question.ask for question in planted_questions(20)]
    known = agent.decide(asks)
    assert all(decision.program != PROGRAMS[0] for decision in known)
    agent.most_doubt = 0.0
    for before, after in zip(known, agent.decide(asks), strict=True):
        assert after.program == PROGRAMS[0]
        assert [each for each in after.programs if each != PROGRAMS[0]] == [
            each for each in before.programs if each != PROGRAMS[0]
        ]


def test_it_looks_where_states_are_kept(recorded: RecordedWorld, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="look is 3; 'tiny' keeps states after 0, 2, 4 layers"):
        train_value(recorded, tmp_path, CONFIG.model_copy(update={"look": 3}))


def test_a_menu_holds_what_adds() -> None:
    """The second-best program on the same questions adds nothing; a weak one on others does."""
    targets = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    assert choose_menu(targets, np.ones(4), 3, 0.0) == [0, 1, 3]
    assert choose_menu(targets, np.array([1, 9, 1, 1.0]), 3, 0.1) == [0, 2, 3]


def test_confidences_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    values = rng.random(4000)
    right = rng.random(4000) < 0.2 + 0.5 * values
    confidences = calibrate(values, right)(values.astype(np.float32))
    for low in (0.0, 0.5):
        some = (values >= low) & (values < low + 0.5)
        assert confidences[some].mean() == pytest.approx(right[some].mean(), abs=0.03)
    assert Calibration(0.0, 0.0)(np.zeros(1, np.float32))[0] == 0.5


def test_its_card_knows_its_questions_in_other_words(recorded: RecordedWorld, tmp_path: Path) -> None:
    """Near-duplicates of prose that it was trained on are refused, as of any trained agent."""
    words = (
        "A farmer in Kent has {} apple trees and each of them bears about {} apples in a good year; how many is that"
    )
    questions = [
        replace(q, ask=replace(q.ask, text=words.format(n, n + 7), equation=None))
        for n, q in enumerate(recorded.questions)
    ]
    world = RecordedWorld(recorded.card, questions, recorded.arrays, recorded.reduction)
    card = read_card(train_value(world, tmp_path, CONFIG).folder / "value")
    row = int(world.rows("train")[0])
    reworded = replace(
        questions[row], ask=replace(questions[row].ask, text=questions[row].text.replace("about", "roughly"))
    )
    with pytest.raises(LeakError, match="in other words"):
        refuse_leaks([reworded], [card], Prompts.for_all(PROMPT))


def test_a_card_without_hashes_is_refused(live: LiveWorld, trained: Path, tmp_path: Path) -> None:
    card = (trained / "value" / "agent.json").read_text()
    (tmp_path / "agent.json").write_text(card.replace('"value.safetensors"', '"other.safetensors"'))
    (tmp_path / "other.safetensors").write_bytes((trained / "value" / "value.safetensors").read_bytes())
    with pytest.raises(FingerprintError, match=r"names no sha256 of value.safetensors"):
        load_agent(str(tmp_path), live)


def test_observations_of_the_saved_reduction_are_the_worlds(
    live: LiveWorld, recorded: RecordedWorld, trained: Path
) -> None:
    agent = load_agent(str(trained / "value"), live)
    assert isinstance(agent, ValueAgent)
    assert isinstance(agent.world, ReducedAsks)
    seen = [(question.ask, (0, 1)) for question in recorded.questions[:8]]
    assert agent.world.observations(seen) == pytest.approx(recorded.observations(seen), abs=5e-3)
