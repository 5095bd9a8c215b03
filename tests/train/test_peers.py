"""Published predictors find the planted program of each question by reading its state, and come back from disk."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from agents.card import read_card
from agents.menu import MenuAgent
from agents.peers import ablr, blockdrop, drllm
from agents.peers.polar import PolarScorer
from agents.peers.segments import Segment, segments_of
from agents.registry import load_agent
from eval.leaks import refuse_leaks
from polar_env.cli import main
from polar_env.cli.train import TrainConfig
from polar_env.errors import ConfigError, FingerprintError, LeakError, NonFiniteError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.worlds import RecordedWorld, write_world
from polar_env.worlds.recorded import WORLDS
from tests.planted import PRODUCTS, SUMS, best_program, planted_questions
from tests.recording import made_world, recorded_world
from tests.test_traces_cli import polar
from tests.worlds import world_of
from train.learners import LEARNERS
from train.peers.config import AblrConfig, BlockDropConfig, DrLLMConfig, PeerConfig, PolarConfig
from train.peers.drllm import _class_weights
from train.peers.lesson import Lesson
from train.peers.polar import PolarNetwork, teach_polar
from train.peers.training import PEERS, train_peer

DEPTH, LOOK = 6, 2
PROGRAMS = [
    Program.parse(text)
    for text in ("0-5", "0-2 4-5", "0-3 5", "0-2 3x2 4-5", "0-3 4x2 5", "0-1 2-3x2 4-5", "0-2 3x3 4-5", "0-2 4 2-5")
]
DROPS, LOOPS = (1, 2), (3, 4)
"""Two programs that skip, two that repeat; which of them is right is a linear function of the state."""
CASES: list[tuple[str, PeerConfig, tuple[int, int]]] = [
    ("polar", PolarConfig(look=LOOK, width=16, epochs=12, learning_rate=5e-3, dropout=0), DROPS),
    ("polar", PolarConfig(look=LOOK, width=16, epochs=12, learning_rate=5e-3, dropout=0), LOOPS),
    ("drllm", DrLLMConfig(look=LOOK, hidden=16), DROPS),
    ("drllm", DrLLMConfig(look=LOOK, hidden=16), LOOPS),
    ("blockdrop", BlockDropConfig(look=LOOK, hidden=16, epochs=60, batch_size=64, learning_rate=5e-3), DROPS),
    ("ablr", AblrConfig(look=LOOK, hidden=16, learning_rate=5e-3), LOOPS),
]


def planted(right: tuple[int, int]) -> RecordedWorld:
    """Half of the questions are answered by one program alone, half by another one, and some by the identity, too."""
    rng, count = np.random.default_rng(0), 600
    splits = ("train", "train", "validation", "test")
    questions = [Question.of(f"What is {n} + 7?", "1", task="sums", split=splits[n % 4]) for n in range(count)]
    codes = rng.normal(size=(count, 2, 8)).astype(np.float16)
    direction = rng.normal(size=8)
    verdicts = np.zeros((count, len(PROGRAMS)), bool)
    verdicts[np.arange(count), np.where(codes[:, 1] @ direction > 0, *right)] = True
    verdicts[rng.random(count) < 0.1, 0] = True
    return made_world(questions, PROGRAMS, verdicts, codes, depths=(0, LOOK))


@pytest.mark.parametrize(("name", "config", "right"), CASES, ids=[f"{name}-{right}" for name, _, right in CASES])
def test_it_learns_which_program_a_question_wants_and_is_saved(
    name: str, config: PeerConfig, right: tuple[int, int], tmp_path: Path
) -> None:
    world = planted(right)
    folder = LEARNERS[name](world, tmp_path, config, 0)
    agent, card = load_agent(str(folder), world), read_card(folder)
    assert isinstance(agent, MenuAgent)
    rows, verdicts = world.rows("test"), world.arrays["right"]
    questions = [world.questions[row] for row in rows]
    decisions = agent.decide([question.ask for question in questions])
    passed = verdicts[rows, [world.column(decision.program) for decision in decisions]].mean()
    assert passed > 0.85
    assert verdicts[rows].mean(0).max() < 0.65  # no program is right as often
    assert card.results["validation"]["pass_at_1"] > 0.85
    assert {decision.flops for decision in decisions} == {agent.scorer.flops}
    refuse_leaks(questions, [card], world.prompts)
    with pytest.raises(LeakError):
        refuse_leaks([world.questions[row] for row in world.rows("train")], [card], world.prompts)

    moved = replace(world.reduction, means=world.reduction.means + 1)
    unlike = RecordedWorld(world.card, world.questions, world.arrays, moved)
    with pytest.raises(FingerprintError, match="reads states reduced in another way"):
        load_agent(str(folder), unlike)


def test_what_cannot_be_taught_says_why(tmp_path: Path) -> None:
    world = planted(DROPS)
    with pytest.raises(NonFiniteError, match="nothing was saved"):
        train_peer(world, tmp_path, "blockdrop", BlockDropConfig(look=LOOK, learning_rate=1e30, epochs=3))
    assert not list(tmp_path.rglob("agent.json"))
    wrong = np.zeros_like(world.arrays["right"])
    hopeless = RecordedWorld(world.card, world.questions, world.arrays | {"right": wrong}, world.reduction)
    with pytest.raises(ConfigError, match="nothing to imitate"):
        train_peer(hopeless, tmp_path, "polar", PolarConfig(look=LOOK, epochs=1))
    with pytest.raises(ValueError, match="do not divide the width"):
        PolarConfig(width=10, heads=4)


@pytest.mark.parametrize("name", PEERS)
def test_saved_it_decides_the_same(name: str, tmp_path: Path) -> None:
    """The same seed makes the same agent; what it scores is the same to the bit, from disk and before."""
    world = planted(DROPS)
    config = next(config for each, config, _ in CASES if each == name).model_copy(update={"epochs": 2})
    asks = [question.ask for question in world.questions]
    first, again = (train_peer(world, tmp_path / str(run), name, config, seed=3) for run in range(2))
    agents = [load_agent(str(folder), world) for folder in (first, again)]
    assert agents[0].decide(asks) == agents[1].decide(asks)  # type: ignore[union-attr]
    one = agents[0]
    assert isinstance(one, MenuAgent)
    kept = type(one.scorer).of(one.scorer.arrays())  # type: ignore[attr-defined]
    observations = world.observations([(ask, (0, 1)) for ask in asks])
    assert np.array_equal(kept.scores(observations), one.scorer.scores(observations))


def test_decisions_are_the_same_live_and_recorded(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    live, questions = world_of(tiny_llm, Prompt(style="qa", max_new_tokens=2)), planted_questions(40)
    questions = [replace(each, split=("train", "validation", "test")[n // 2 % 3]) for n, each in enumerate(questions)]
    world = recorded_world(live, questions, [Program((0, 1, 2, 3)), SUMS, PRODUCTS], tmp_path, components=8)
    right = np.array([[program == best_program(q) for program in world.programs] for q in world.questions])
    world = RecordedWorld(world.card, world.questions, world.arrays | {"right": right}, world.reduction)
    folder = train_peer(world, tmp_path, "drllm", DrLLMConfig(look=2, hidden=16, batch_size=4, learning_rate=5e-3))
    on_llm, on_table = load_agent(str(folder), live), load_agent(str(folder), world)
    asks = [world.questions[row].ask for row in world.rows("test")]
    chosen = [decision.program for decision in on_llm.decide(asks)]  # type: ignore[union-attr]
    assert chosen == [decision.program for decision in on_table.decide(asks)]  # type: ignore[union-attr]
    assert len(set(chosen)) > 1


def test_layers_that_run_before_the_choice_are_counted(tmp_path: Path) -> None:
    """Three layers have run, and a program that skips the second one starts anew behind the first."""
    world = planted(DROPS)
    programs = [Program.parse("0 2-5"), Program.parse("0-4")]

    class Fixed:
        flops = 7.0

        def scores(self, observations: np.ndarray) -> np.ndarray:
            return np.tile(np.array([2.0, 1.0], np.float32), (len(observations), 1))

        def arrays(self) -> dict[str, np.ndarray]:
            return {}

    (decision,) = MenuAgent(world.asks, programs, Fixed(), 3, "fixed").decide([world.questions[0].ask])
    assert (decision.programs, decision.layers, decision.flops) == (tuple(programs), 2, 7.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-5", [(0, 4, 1), (4, 2, 1)]),
        ("0-2 4-5", [(0, 3, 1), (3, 1, 0), (4, 2, 1)]),
        ("0-1 2-3x2 4-5", [(0, 2, 1), (2, 2, 2), (4, 2, 1)]),
        ("4-5", [(0, 4, 0), (4, 2, 1)]),
        ("0-3 2-5", [(0, 2, 1), (2, 2, 2), (4, 2, 1)]),
        ("0 0 0-5", None),  # three times
        ("0-5 2", None),  # back
    ],
)
def test_segments(text: str, expected: list[tuple[int, int, int]] | None) -> None:
    made = segments_of(Program.parse(text), DEPTH)
    assert made == (None if expected is None else tuple(Segment(*each) for each in expected))


def test_what_each_method_can_express() -> None:
    assert drllm.express(PROGRAMS, DEPTH)[0] == [0, 1, 2, 3, 4]
    columns, keep = blockdrop.express(PROGRAMS, DEPTH)
    assert columns == [0, 1, 2]
    assert keep.T.tolist() == [[1] * 6, [1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 0, 1]]
    columns, loops = ablr.express(PROGRAMS, DEPTH)
    assert columns == [0, 3, 4, 5, 6]
    assert loops[:, 0].tolist() == [0] * 4  # the identity loops nothing
    assert loops[:, 1:].tolist() == np.eye(4).tolist()


def test_routers_logits_add_up_to_a_program() -> None:
    _, matrix = drllm.express(PROGRAMS, DEPTH)
    assert matrix[:, 1].reshape(DEPTH, 3).argmax(1).tolist() == [1, 1, 1, 0, 1, 1]
    assert matrix[:, 3].reshape(DEPTH, 3).argmax(1).tolist() == [1, 1, 1, 2, 1, 1]
    assert matrix.sum(0).tolist() == [DEPTH] * 5


def test_rare_choices_count_more() -> None:
    weights = _class_weights(torch.tensor([[1] * 90 + [0] * 9 + [2]]), 0.999)
    assert weights[2] > weights[0] > weights[1]
    assert weights.mean() == pytest.approx(1)


def test_numpy_scores_programs_as_torch_does() -> None:
    """The score is the log-probability of a program's segments, up to what all programs have in common."""
    world, config = planted(DROPS), PolarConfig(width=16, epochs=1, look=LOOK)
    observations = world.arrays["codes"][:50, 1].astype(np.float32)
    lesson = Lesson(PROGRAMS, DEPTH, observations, world.arrays["right"][:50], world.costs)
    torch.manual_seed(0)
    taught = teach_polar(lesson, config)
    scorer = taught.scorer
    assert isinstance(scorer, PolarScorer)
    network = PolarNetwork(8, DEPTH, config).eval()
    network.load_state_dict({n: torch.tensor(a) for n, a in scorer.weights.items() if n not in ("centre", "scale")})
    with torch.inference_mode():
        begins, operations = network(lesson.read)
    likely = torch.log_softmax(operations, 2)
    for column, place in zip(taught.columns, range(len(taught.columns)), strict=True):
        cut = segments_of(PROGRAMS[column], DEPTH)
        assert cut is not None
        expected = sum(likely[:, each.start, each.times] + begins[:, each.start] * (each.start > 0) for each in cut)
        assert np.allclose(scorer.scores(observations)[:, place], expected, atol=1e-4)


@pytest.mark.parametrize("name", PEERS)
def test_presets_train_on_the_world_that_ships(name: str) -> None:
    text = (resources.files("train.presets") / "peers" / f"{name}.yaml").read_text(encoding="utf-8")
    config = TrainConfig.of(yaml.safe_load(text), name)
    assert (config.learner, config.world in WORLDS) == (name, True)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_world(planted(LOOPS), tmp_path / "world")
    command = ["train", "--world", str(tmp_path / "world"), "--out", str(tmp_path)]
    done = polar(capsys, *command, "--learner", "ablr", "--ablr.look", "2", "--ablr.epochs", "1")
    assert 0 <= done["validation"]["pass_at_1"] <= 1
    assert read_card(tmp_path / "agents" / "ablr").kind == "ablr"
    assert main([*command, "--learner", "drlm"]) == 2
    assert "Did you mean 'drllm'" in capsys.readouterr().err


def test_a_depth_without_states_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="look is 3; 'made' keeps states after 0, 2 layers"):
        train_peer(planted(DROPS), tmp_path, "ablr", AblrConfig(look=3))
