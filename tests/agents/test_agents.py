from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agents.load import load_agent
from sb3_contrib import MaskablePPO

from agents.fixed import RandomAgent, StaticAgent
from agents.policy import NETWORK, PolicyAgent
from polar_env.envs import ProgramVectorEnv
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.errors import ConfigError, ProgramError, UnknownNameError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld


def test_random_programs_are_as_long_as_the_identity(questions: list[Question]) -> None:
    agent = RandomAgent(depth=12, seed=1)
    proposals = agent.decide(questions, k=3)
    programs = {program for row in proposals for program in row}
    assert {len(program) for program in programs} == {12}
    assert len(programs) > 3
    assert Program.identity(12) not in programs
    assert proposals == RandomAgent(12, seed=1).decide(questions, k=3)
    assert proposals != RandomAgent(12, seed=2).decide(questions, k=3)


def test_agents_by_name(world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    assert load_agent("identity", world).decide(questions[:1]) == [[Program.identity(4)]]
    assert load_agent("random", world).name == "random"
    static = load_agent("static:0-1 3", world)
    assert isinstance(static, StaticAgent)
    assert static.decide(questions[:2], k=2) == [[Program((0, 1, 3))] * 2] * 2
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        load_agent("randon", world)
    with pytest.raises(ProgramError, match="layer 4 is out of range"):
        load_agent("static:0-7", world)
    with pytest.raises(UnknownNameError, match=r"runs/quickstart/agents/ppo"):
        load_agent(str(tmp_path), world)


def test_folder_without_an_agent(tmp_path: Path) -> None:
    from agents.policy import read_card

    with pytest.raises(ConfigError, match="holds no agent"):
        read_card(tmp_path)


def test_acting_is_what_predict_does(world: LiveWorld, questions: list[Question]) -> None:
    env = ProgramVectorEnv(12, world, questions)
    model = MaskablePPO("MultiInputPolicy", ProgramVecEnv(env), n_steps=4, batch_size=8, policy_kwargs=NETWORK, seed=3)
    model.learn(48)  # so that it does not prefer the same action everywhere
    agent = PolicyAgent(model, env.rules)
    observation, infos = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        masks = infos["action_mask"]
        expected, _ = model.predict(observation, action_masks=masks, deterministic=True)
        assert agent.act(observation, masks, deterministic=True).tolist() == expected.tolist()
        sampled = agent.act(observation, masks, deterministic=False)
        assert masks[np.arange(len(masks)), sampled].all()
        observation, *_, infos = env.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
