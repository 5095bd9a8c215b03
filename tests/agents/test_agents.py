from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_contrib import MaskablePPO

from agents import registry
from agents.base import Decision
from agents.card import CARD, AgentCard, library_versions, read_card, save_agent
from agents.fixed import RandomAgent, StaticAgent
from agents.policy.agent import KIND, WEIGHTS, PolicyAgent
from agents.policy.network import NETWORK, new_policy, weights_of
from agents.registry import load_agent
from polar_env.envs import EnvConfig, Observer, ProgramVectorEnv
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.errors import ConfigError, FingerprintError, ProgramError, UnknownNameError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Example, Prompt, Question
from polar_env.worlds import LiveWorld
from tests.worlds import world_of


@pytest.fixture
def world(tiny_llm: FrozenLLM) -> LiveWorld:
    """Under a prompt that a card can hold."""
    return world_of(tiny_llm, Prompt(style="qa", examples=(Example(question="1 + 1", answer="2"),)))


@pytest.fixture
def asks(questions: list[Question]) -> list[Ask]:
    return [question.ask for question in questions]


def card_of(world: LiveWorld, kind: str, **changes: Any) -> AgentCard:
    values: dict[str, Any] = {
        "kind": kind, "name": "mine", "model": "tiny", "dtype": "float32", "fingerprint": world.llm.fingerprint,
        "depth": world.depth, "prompts": world.prompts, "tasks": [], "questions": [], "train_asks": [],
        "validation_asks": [], "seed": 3, "versions": library_versions(), "config": {}, "results": {},
    }  # fmt: skip
    return AgentCard(**values | changes)


def test_random_programs_are_as_long_as_the_identity(asks: list[Ask]) -> None:
    decisions = RandomAgent(depth=12, seed=1).decide(asks)
    programs = {decision.program for decision in decisions}
    assert {len(program) for program in programs} == {12}
    assert len(programs) > 3
    assert Program.identity(12) not in programs
    assert decisions[::-1] == RandomAgent(12, seed=1).decide(asks[::-1])  # whatever is asked beside
    assert decisions != RandomAgent(12, seed=2).decide(asks)


def test_agents_by_name(world: LiveWorld, asks: list[Ask], tmp_path: Path) -> None:
    assert load_agent("identity", world).decide(asks[:1]) == [Decision.of(Program.identity(4))]
    assert load_agent("random", world).name == "random"
    static = load_agent("static:0-1 3", world)
    assert isinstance(static, StaticAgent)
    assert static.decide(asks[:2]) == [Decision((Program((0, 1, 3)),), (None,))] * 2
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        load_agent("randon", world)
    with pytest.raises(ProgramError, match="layer 4 is out of range"):
        load_agent("static:0-7", world)
    with pytest.raises(UnknownNameError, match=r"runs/quickstart/agents/ppo"):
        load_agent(str(tmp_path), world)


@pytest.mark.parametrize("programs", [1, 3])
def test_a_saved_policy_decides_as_before(world: LiveWorld, asks: list[Ask], tmp_path: Path, programs: int) -> None:
    """Also its samples, whatever torch's own generator has drawn meanwhile, and whatever is asked beside."""
    config = EnvConfig(language="segments", observe="question")
    observer = Observer(world.asks, config)
    policy = new_policy(observer)
    card = card_of(world, KIND, config={"env": config.model_dump(mode="json")})
    weights = {weights_of(policy) for _ in range(8)}
    assert len(weights) == 1  # the same policy has the same hash in every card
    save_agent(card, tmp_path, {WEIGHTS: weights.pop()})
    agent = load_agent(str(tmp_path), world)
    assert isinstance(agent, PolicyAgent)
    agent.programs = programs
    before = PolicyAgent(policy, observer, seed=3, programs=programs).decide(asks)
    assert agent.decide(asks) == before
    assert agent.decide(asks[:1]) == before[:1]
    assert {len(decision.programs) for decision in before} == {programs}
    assert before[0].flops > 0
    if programs > 1:
        assert len({program for decision in before for program in decision.programs}) > 1


@pytest.mark.parametrize("kind", ["static", "random"])
def test_every_kind_has_a_card(world: LiveWorld, asks: list[Ask], tmp_path: Path, kind: str) -> None:
    save_agent(card_of(world, kind, config={"program": "0-1 3"}), tmp_path, {})
    agent = load_agent(str(tmp_path), world)
    expected = StaticAgent(Program((0, 1, 3))) if kind == "static" else RandomAgent(world.depth, seed=3)
    assert agent.decide(asks) == expected.decide(asks)
    assert agent.name == "mine"


def test_a_package_adds_a_kind(world: LiveWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_agent(card_of(world, "theirs"), tmp_path, {})
    with pytest.raises(UnknownNameError, match="unknown kind of agent 'theirs'"):
        load_agent(str(tmp_path), world)
    point = EntryPoint("theirs", f"{__name__}:load_theirs", registry.LOADERS.group)
    monkeypatch.setitem(registry.LOADERS._points, "theirs", [point])
    assert load_agent(str(tmp_path), world).name == "theirs"


def load_theirs(folder: Path, card: AgentCard, world: LiveWorld) -> StaticAgent:
    return StaticAgent(world.identity, card.kind)


def test_cards_that_cannot_be_trusted(world: LiveWorld, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no agent"):
        read_card(tmp_path)
    card = save_agent(card_of(world, "static", config={"program": "0"}), tmp_path, {"weights": b"right"})
    (tmp_path / "weights").write_bytes(b"wrong")
    with pytest.raises(FingerprintError, match="missing or was swapped"):
        load_agent(str(tmp_path), world)
    (tmp_path / "weights").write_bytes(b"right")
    assert load_agent(str(tmp_path), world).name == "mine"
    for change, message in (
        ({"fingerprint": "0" * 16}, "was made for 'tiny'"),
        ({"schema_version": 99}, "version 99.*install a newer"),
        ({"schema_version": 1}, "version 1.*train the agent again"),
        ({"kinds": "static"}, "Did you mean 'kind'"),
        ({"seed": "x"}, "'seed' is 'x'"),
    ):
        (tmp_path / CARD).write_text(json.dumps(card.model_dump(mode="json") | change))
        with pytest.raises((ConfigError, FingerprintError, UnknownNameError), match=message):
            load_agent(str(tmp_path), world)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        read_card(tmp_path)


def test_policies_whose_weights_cannot_be_trusted(world: LiveWorld, tmp_path: Path) -> None:
    config = EnvConfig().model_dump(mode="json")
    weights = weights_of(new_policy(Observer(world.asks, EnvConfig())))
    for card, files, message in (
        (card_of(world, KIND), {WEIGHTS: weights}, "lacks 'env' in its config"),
        (card_of(world, KIND, config={"env": config}), {"other": weights}, f"names no sha256 of {WEIGHTS}"),
        (card_of(world, KIND, config={"env": config}), {WEIGHTS: weights[:100]}, "damaged or missing"),
    ):
        save_agent(card, tmp_path, files)
        (tmp_path / WEIGHTS).write_bytes(weights[:100] if "damaged" in message else weights)
        with pytest.raises((ConfigError, FingerprintError), match=message):
            load_agent(str(tmp_path), world)
    save_agent(card_of(world, "static"), tmp_path, {})
    with pytest.raises(ConfigError, match="lacks 'program'"):
        load_agent(str(tmp_path), world)


def test_layers_executed_for_samples_alone_are_counted(world: LiveWorld, asks: list[Ask]) -> None:
    observer = Observer(world.asks, EnvConfig(observe="layers"))
    policy = new_policy(observer)
    one, several = (PolicyAgent(policy, observer, programs=n).decide(asks) for n in (1, 3))
    assert {decision.layers for decision in one} == {0}
    for decision in several:
        states = {program.layers[: i + 1] for program in decision.programs for i in range(len(program))}
        assert decision.layers == len(states) - len(decision.program)
    assert any(decision.layers for decision in several)


def test_logits_are_those_behind_predict(world: LiveWorld, questions: list[Question]) -> None:
    env = ProgramVectorEnv(12, world, questions)
    model = MaskablePPO("MultiInputPolicy", ProgramVecEnv(env), n_steps=4, batch_size=8, policy_kwargs=NETWORK, seed=3)
    model.learn(48)  # so that it does not prefer the same action everywhere
    agent = PolicyAgent(model.policy, env.rules.observer)
    observation, infos = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        masks = infos["action_mask"]
        expected, _ = model.predict(observation, action_masks=masks, deterministic=True)
        logits = agent.logits(observation, masks)
        assert logits.argmax(-1).tolist() == expected.tolist()
        assert (np.isfinite(logits) == masks).all()
        observation, *_, infos = env.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
