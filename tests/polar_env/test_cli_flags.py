from __future__ import annotations

import pytest

from agents.search.config import PRESETS, MctsConfig
from polar_env.cli.flags import ModelConfig, with_model
from polar_env.cli.search import SearchVerbConfig, defaults
from polar_env.errors import UnknownNameError


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("own", "bfloat16")),
        ({"dtype": "auto"}, ("own", "bfloat16")),  # decided when the agent was trained, not anew
        ({"model": "other", "dtype": "float16"}, ("other", "float16")),
        ({"dtype": "float32"}, ("own", "float32")),  # given by hand it stands, though it is the default, too
    ],
)
def test_what_was_made_before_names_model_and_dtype(asked: dict[str, str], expected: tuple[str, str]) -> None:
    config = with_model(ModelConfig(**asked), "own", "bfloat16")
    assert (config.model, config.dtype) == expected


@pytest.mark.parametrize(
    ("flags", "file", "expected"),
    [
        ([], {}, PRESETS["fast"]),
        (["--preset", "cola"], {}, PRESETS["cola"]),
        (["--preset=cola"], {"mcts": {"simulations": 7}}, PRESETS["cola"].model_copy(update={"simulations": 7})),
        ([], {"preset": "drllm"}, PRESETS["drllm"]),
        (["--preset", "repolar"], {"preset": "drllm"}, PRESETS["repolar"]),
    ],
)
def test_a_preset_by_flag_or_file(flags: list[str], file: dict[str, object], expected: MctsConfig) -> None:
    assert SearchVerbConfig.model_validate(defaults(flags, file)).mcts == expected


def test_a_preset_in_a_file_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cola'"):
        defaults([], {"preset": "cloa"})
