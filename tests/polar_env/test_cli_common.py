from __future__ import annotations

import pytest

from polar_env.cli.common import ModelConfig, with_model


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("own", "bfloat16")),
        ({"dtype": "auto"}, ("own", "bfloat16")),  # decided when the agent was trained, not anew
        ({"model": "other", "dtype": "float16"}, ("other", "float16")),
    ],
)
def test_what_was_made_before_names_model_and_dtype(asked: dict[str, str], expected: tuple[str, str]) -> None:
    config = with_model(ModelConfig(**asked), "own", "bfloat16")
    assert (config.model, config.dtype) == expected
