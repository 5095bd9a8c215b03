"""A recorded world says what the LLM said, is refused when a byte is not its own, and needs no LLM."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agents.registry import load_agent
from eval.faithful import compare_with_live
from polar_env.errors import ConfigError, FingerprintError, LeakError, UnknownNameError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.runner import no_verdicts_for
from polar_env.worlds import (
    LiveWorld,
    NotRecordedError,
    RecordedAsks,
    RecordedWorld,
    ReducedAsks,
    Reduction,
    open_world,
    write_world,
)
from polar_env.worlds.recorded import WORLDS
from tests.recording import recorded_world
from tests.worlds import world_of
from train.config import ValueConfig
from train.value import train_value

PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3)), Program((0, 1, 2)), Program((1, 2, 3))]
QUESTIONS = [
    Question.of(f"Say {n}", "a", task=("words", "more")[n % 2], split=("train", "train", "validation", "test")[n % 4])
    for n in range(24)
]


@pytest.fixture(scope="module")
def live(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=3))


@pytest.fixture(scope="module")
def recorded(live: LiveWorld, tmp_path_factory: pytest.TempPathFactory) -> RecordedWorld:
    return recorded_world(live, QUESTIONS, PROGRAMS, tmp_path_factory.mktemp("recording"), components=6)


def test_it_says_what_the_llm_says(live: LiveWorld, recorded: RecordedWorld) -> None:
    pairs = [(question, program) for question in QUESTIONS for program in PROGRAMS]
    for ours, theirs in zip(recorded.verdicts(pairs), live.verdicts(pairs), strict=True):
        assert ours.right == theirs.right
        assert ours.log_prob == pytest.approx(theirs.log_prob, rel=1e-3)
    asked = [(question.ask, program.layers) for question, program in pairs]
    assert recorded.confidences(asked) == pytest.approx(live.confidences(asked), abs=2e-3)
    seen = [(q.ask, layers) for q in QUESTIONS for layers in ((), (0, 1), (0, 1, 2), (0, 1, 1, 2), (1, 2))]
    reduced = ReducedAsks(live.asks, recorded.reduction)
    assert recorded.observations(seen) == pytest.approx(reduced.observations(seen), abs=5e-3)
    assert recorded.observed == reduced.observed
    recorded.require(live)


def test_it_gives_the_answers_that_were_written(live: LiveWorld, recorded: RecordedWorld, tmp_path: Path) -> None:
    asks = [question.ask for question in QUESTIONS]
    for program in PROGRAMS[:2]:
        ours, theirs = recorded.asks.answers(asks, program), live.answers(asks, program)
        assert [each.text for each in ours] == [each.text for each in theirs]
        assert [each.log_prob for each in ours] == pytest.approx([each.log_prob for each in theirs], abs=1e-3)
    assert recorded.written.programs() == [str(program) for program in PROGRAMS[:2]]
    write_world(recorded, tmp_path, texts=False)
    kept = open_world(tmp_path)
    assert len(kept.written) == len(recorded.written)
    with pytest.raises(NotRecordedError, match="Execute live"):
        kept.answers(asks, PROGRAMS[0])


def test_it_gives_the_choices_of_the_llm(live: LiveWorld, tmp_path: Path) -> None:
    questions = [
        Question.of(f"Which {n}?", "b", choices=("a", "b", "cc"), split=("train", "validation", "test")[n % 3])
        for n in range(12)
    ]
    world = recorded_world(live, questions, PROGRAMS, tmp_path)
    asks = [question.ask for question in questions]
    for program in PROGRAMS:
        ours, theirs = world.asks.answers(asks, program), live.answers(asks, program)
        assert [each.text for each in ours] == [each.text for each in theirs]
        assert [each.confidence for each in ours] == pytest.approx([each.confidence for each in theirs], abs=2e-3)


def test_agents_get_no_verdict(recorded: RecordedWorld) -> None:
    asks = recorded.asks
    assert type(asks) is RecordedAsks
    held = [value for value in vars(asks).values() if isinstance(value, np.ndarray)]
    assert {id(value) for value in held} == {id(recorded.arrays[name]) for name in ("codes", "own")}
    assert not any(isinstance(value, list) and QUESTIONS[0] in value for value in vars(asks).values())
    assert "right" not in vars(asks.written)["_rows"].column_names
    with pytest.raises(AttributeError):
        asks.verdicts  # type: ignore[attr-defined]  # noqa: B018
    seen = [(QUESTIONS[0].ask, (0, 1))]
    assert (asks.observations(seen) == recorded.observations(seen)).all()


def test_states_are_those_of_the_identity(recorded: RecordedWorld) -> None:
    """After a program departs from the identity, the last state before stays in sight."""
    ask = QUESTIONS[0].ask
    kept = recorded.observations([(ask, layers) for layers in ((0, 1), (0, 1, 2), (0, 1, 3, 3), (0, 1, 1, 2))])
    assert (kept == kept[0]).all()
    assert (recorded.observations([(ask, (0, 1, 2, 3))]) != kept[0]).any()
    assert (recorded.observations([(ask, (1, 2, 3))]) == recorded.observations([(ask, ())])).all()


def test_a_reduction_keeps_what_differs_most() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 12))
    states = (rng.normal(size=(50, 1, 2, 2)) @ plane).astype(np.float32) + 3.0  # [N, S, 2, H]
    reduction = Reduction.fit(states, [0], components=2)
    codes = reduction.apply(states.reshape(50, -1), np.zeros(50, np.intp)).reshape(50, 2, 2)
    for half in range(2):
        again = codes[:, half] @ reduction.bases[0, half].T.astype(np.float32) + reduction.means[0, half]
        assert again == pytest.approx(states[:, 0, half], abs=2e-2)


def test_what_was_not_recorded(recorded: RecordedWorld) -> None:
    with pytest.raises(NotRecordedError, match=r"no program '0-2x2 3'.*polar record run and --program"):
        recorded.verdicts([(QUESTIONS[0], Program((0, 1, 2, 0, 1, 2, 3)))])
    with pytest.raises(NotRecordedError, match="no question 'Other'"):
        recorded.observations([(Question.of("Other", "a").ask, ())])
    with pytest.raises(NotRecordedError, match=r"it holds those of 2 programs \('0-3', "):
        recorded.answers([QUESTIONS[0].ask], PROGRAMS[2])
    with pytest.raises(NotRecordedError, match="not sampled ones"):
        recorded.answers([QUESTIONS[0].ask], PROGRAMS[0], temperature=1.0, seeds=[0])


def test_another_llm_or_prompt_is_refused(live: LiveWorld, recorded: RecordedWorld) -> None:
    with pytest.raises(FingerprintError, match="recorded under the prompt"):
        recorded.require(world_of(live.llm, Prompt(style="bare", max_new_tokens=3)))
    other = recorded.card.model_copy(update={"fingerprint": "0123"})
    with pytest.raises(FingerprintError, match=r"was recorded with .* \(0123\)"):
        RecordedWorld(other, QUESTIONS, recorded.arrays, recorded.reduction).require(live)


def test_a_file_that_is_not_its_own_is_refused(recorded: RecordedWorld, tmp_path: Path) -> None:
    card = write_world(recorded, tmp_path / "whole")
    again = open_world(tmp_path / "whole")
    assert again.questions == recorded.questions
    for name, array in recorded.reduction.arrays().items():
        assert (again.reduction.arrays()[name] == array).all()
    assert all((again.arrays[name] == recorded.arrays[name]).all() for name in recorded.arrays)
    for name in set(card.files) - {"world.json"}:
        for number, harm in enumerate((lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]))):
            folder = tmp_path / f"{name}-{number}"
            shutil.copytree(tmp_path / "whole", folder)
            (folder / name).write_bytes(harm((folder / name).read_bytes()))
            with pytest.raises(FingerprintError, match=f"{name} is missing, cut short or changed"):
                open_world(folder)
    values = json.loads((tmp_path / "whole" / "world.json").read_text())
    (tmp_path / "whole" / "world.json").write_text(json.dumps(values | {"licence": "mine"}))
    with pytest.raises(FingerprintError, match=r"world.json is missing, cut short or changed"):
        open_world(tmp_path / "whole")
    (tmp_path / "whole" / "world.json").write_text(json.dumps(values | {"schema_version": 0}))
    with pytest.raises(FingerprintError, match="is of schema 0"):
        open_world(tmp_path / "whole")
    with pytest.raises(UnknownNameError, match="Did you mean 'skills-smollm2-135m-v0'"):
        open_world("skills-smollm2-135m-v1")


def test_a_card_names_all_its_files(recorded: RecordedWorld, tmp_path: Path) -> None:
    write_world(recorded, tmp_path)
    values = json.loads((tmp_path / "world.json").read_text())
    del values["files"]["verdicts.safetensors"]
    (tmp_path / "world.json").write_text(json.dumps(values))
    with pytest.raises(FingerprintError, match="names the files"):
        open_world(tmp_path)


def test_a_control_shows_nothing_of_a_question(recorded: RecordedWorld) -> None:
    control = recorded.shuffled()
    assert control.card.name == "tiny-control"
    assert not len(control.written)
    for name in ("codes", "own"):
        assert (control.arrays[name] != recorded.arrays[name]).any()
        kept = {row.tobytes() for row in recorded.arrays[name]}
        assert {row.tobytes() for row in control.arrays[name]} == kept
    assert control.arrays["right"] is recorded.arrays["right"]


def test_no_verdicts_while_a_program_is_chosen(live: LiveWorld, recorded: RecordedWorld) -> None:
    pairs = [(QUESTIONS[0], PROGRAMS[0])]
    live.verdicts(pairs)  # in memory now
    for world in (live, recorded):
        with no_verdicts_for("mine"), pytest.raises(LeakError, match="'mine' read verdicts from"):
            world.verdicts(pairs)
        assert world.verdicts(pairs)


def test_arrays_that_do_not_fit_are_refused(recorded: RecordedWorld) -> None:
    with pytest.raises(ConfigError, match="does not fit together"):
        RecordedWorld(recorded.card, QUESTIONS[1:], recorded.arrays, recorded.reduction)


def test_texts_may_stay_at_home(recorded: RecordedWorld, tmp_path: Path) -> None:
    write_world(recorded, tmp_path, texts=False)
    kept = open_world(tmp_path)
    shipped = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Say 3" not in shipped
    assert [question.task for question in kept.questions] == [question.task for question in recorded.questions]
    pairs = [(question, PROGRAMS[1]) for question in recorded.questions]
    assert kept.verdicts(pairs) == recorded.verdicts(pairs)  # whoever has the texts finds them by their ids
    with pytest.raises(ConfigError, match="holds no texts"):
        train_value(kept, tmp_path / "run", ValueConfig(look=2))


@pytest.mark.parametrize("name", WORLDS)
def test_shipped_worlds_are_frozen(name: str) -> None:
    """What is cited must not change; a world with other bytes gets another version in its name."""
    world = open_world(name)
    assert world.card.name == name
    assert world.card.files == FROZEN[name]
    assert {question.split for question in world.questions} == {"train", "validation", "test"}


def test_a_shipped_world_is_what_the_llm_says(smollm2: FrozenLLM) -> None:
    """A sample is executed again. States are of float32, as here; verdicts of bfloat16, of which few are others."""
    world = open_world(WORLDS[0])
    live = world_of(smollm2, world.prompts)
    found = compare_with_live(world, live, pairs=80)
    assert found.states < 0.01
    assert found.verdicts.value >= 0.95
    assert world.card.unstable is not None
    assert world.card.unstable.changed <= 0.04 * world.card.unstable.pairs


def test_the_shipped_agent_decides_live_as_on_its_record(smollm2: FrozenLLM) -> None:
    """On 200 asks; states were rounded when they were stored, which may turn a choice between two equals."""
    world = open_world(WORLDS[0])
    asks = [world.questions[row].ask for row in world.rows("test")[:200]]
    on_llm, on_record = (
        load_agent("skills", where).decide(asks)  # type: ignore[union-attr]
        for where in (world_of(smollm2, world.prompts), world)
    )
    same = [ours.program == theirs.program for ours, theirs in zip(on_llm, on_record, strict=True)]
    assert np.mean(same) >= 0.99
    assert len({decision.program for decision in on_llm}) > 20


def test_a_world_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, gymnasium; env = gymnasium.make_vec('polar_env:Skills-SmolLM2-135M-v0', 2); env.reset(seed=0); "
        "env.step(env.action_space.sample()); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


FROZEN = {
    "skills-smollm2-135m-v0": {
        "questions.parquet": "cc87ef75cf304a44505ff70b4a15c7689fdf6c7e035a2806cbccdd51b22db56e",
        "answers.parquet": "492096691db82276a97abf84e6cd9f66c61cdb2697e12027ab17f58d9fe09bcc",
        "verdicts.safetensors": "fb89486fe118330546cad1454b259675623fc3216ec9bee795857d4fabba59ba",
        "states.safetensors": "7e63cecb017c3bb62b3a2a8570849b4e89ec4a8c60984b63c939ad25fbcddebb",
        "reduction.safetensors": "54b57828107d8f76bf7d4ee09864864d7f573b34136ff754aaa1e964a27415a6",
        "world.json": "af87b194893c2cb5810c21deeabcccdb35d80c232b6311bea5d992d3ef7ef610",
    },
    "knowledge-smollm2-135m-v0": {
        "questions.parquet": "d847b2f351ce39f97162f89c56ff309e6505469b280502edd5eeafcb386a8cc5",
        "answers.parquet": "3da4228604f5a691d23e04a58fe925d8ea661a26f2c3e6992b3f8c28dfca0468",
        "verdicts.safetensors": "f39029a19e6ec40f766965802c7601a0a9a1275cc90ed70bb781b30ff0545b95",
        "states.safetensors": "80f7c4347127f0ebebb1a17d6e7150a01ec3bf6fb4a990e8dae992fd3b9bf79a",
        "reduction.safetensors": "ca8cfcb16e6b2f8aa8846ca05e0e9d7f8503d3d184620dd822c2556174f0735d",
        "world.json": "cebef4f7731b16d7999589f6e007b371099c8098f97a78d2f53a8b95263935db",
    },
    "words-smollm2-135m-v0": {
        "questions.parquet": "d9ead9536e654099d9c97691f981b39d6681787b71bcdea44f7685bf1bef6178",
        "answers.parquet": "e23ab5200aa16f6428f0ed5311c17f0800a0add864140373457a1f0d0d13f36e",
        "verdicts.safetensors": "70dafd907c6b9da8ec618a7b55d9051f7721650165f37999b9439289e1066d33",
        "states.safetensors": "663318f9b86ddc4a60d24956732e2cc6349643f7e26f786b27491769c486d73e",
        "reduction.safetensors": "114670c9e3eef800a03e8037e5c7a20c16b28d592804b25d53b8f081ce6b650a",
        "world.json": "93e632f48a96ad4d5259d64108a4f5b74d2a5a3b50047ecb9a01855b450844a9",
    },
    "skills-gemma3-270m-v0": {
        "questions.parquet": "668ce119e45c95a5f92ca0b0c8e1b4623dd4b78c8e4c1488edea6e92eef13c97",
        "answers.parquet": "675e6dbaec9814c13f6adefdd09e256e9ec7d029999d41ed7d531fbb1afd4ef8",
        "verdicts.safetensors": "31671ee0b34fe20b8406812f2d477ca1f11225b465fbf7da3d19f98f75ad036a",
        "states.safetensors": "bc1f07a2f87c1cc48409dc8335c618d7c522705c97553d13dceeaa1724440d0a",
        "reduction.safetensors": "13aa822a0a392b7a4e78a3d3d5c0ff92c2b4e13304f4036c3a52a53b9daa6b81",
        "world.json": "9a78470d1fc1f067646bf312b7a2b702eb5574d4dd826d7d9547eef3c08fdc49",
    },
}
