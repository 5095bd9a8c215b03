from __future__ import annotations

import pytest
from pydantic import Field

from polar_env.config import Config
from polar_env.envs import EnvConfig, ProgramEnv
from polar_env.envs.rewards import REWARDS, Correctness, Outcome, make_reward
from polar_env.errors import ConfigError, UnknownNameError
from polar_env.questions import Question
from polar_env.worlds import LiveWorld


class Chance(Config):
    """The gold answer's log-probability."""

    scale: float = Field(default=1.0, gt=0)

    def __call__(self, outcome: Outcome) -> float:
        return self.scale * outcome.verdict.log_prob


class Nothing(Config):
    """A reward that lacks its method."""


class NoNumber(Config):
    """A reward that is not finite."""

    def __call__(self, outcome: Outcome) -> float:
        return float("nan")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reward in {"chance": Chance, "nothing": Nothing, "no-number": NoNumber}.items():
        monkeypatch.setitem(REWARDS._registered, name, reward)


def test_a_reward_is_a_name_with_options() -> None:
    assert make_reward("correctness") == Correctness()
    assert make_reward("chance {scale: 2}") == Chance(scale=2)
    assert EnvConfig(reward="chance {scale: 2}").make_reward() == Chance(scale=2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("correctnes", UnknownNameError, "unknown reward 'correctnes'. Did you mean 'correctness'"),
        ("chance {scales: 2}", UnknownNameError, "unknown key in reward 'chance' 'scales'. Did you mean 'scale'"),
        ("chance {scale: 0}", ConfigError, "reward 'chance': 'scale' is 0: Input should be greater than 0"),
        ("chance {scale: [}", ConfigError, "its options are no mapping; write chance {option: value}"),
        ("nothing", ConfigError, "give Nothing a method __call__"),
        ("", UnknownNameError, "unknown reward ''"),
    ],
)
def test_a_wrong_reward_is_refused_with_the_configuration(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refused:
        EnvConfig.of({"reward": text}, "the environment")
    assert message in str(refused.value)


@pytest.mark.parametrize("relative", [False, True])
def test_the_environment_pays_it(world: LiveWorld, questions: list[Question], relative: bool) -> None:
    env = ProgramEnv(world, questions, split=None, reward="chance {scale: 0.5}", layer_cost=0.0, relative=relative)
    env.reset(options={"question": 0})
    env.step(env.rules.language.encode(world.identity)[0])
    for action in env.rules.language.encode(world.identity)[1:-1]:
        env.step(action)
    _, reward, over, _, info = env.step(env.rules.language.encode(world.identity)[-1])
    assert over
    assert reward == pytest.approx(0.0 if relative else 0.5 * info["gold_log_prob"])


def test_a_reward_that_is_no_number_names_program_and_question(world: LiveWorld, questions: list[Question]) -> None:
    env = ProgramEnv(world, questions, split=None, reward="no-number")
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ConfigError, match=r"reward 'no-number' gives nan for program '0' on question \w+; a reward is"):
        env.step(env.rules.language.n_actions - 1)
