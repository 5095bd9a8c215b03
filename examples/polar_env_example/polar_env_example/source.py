"""A kind of question source: ``squares:40`` asks for the squares of the first 40 numbers."""

from __future__ import annotations

from polar_env.errors import ConfigError
from polar_env.questions import QuestionSpec, Records

__all__ = ["squares"]


def squares(spec: QuestionSpec, name: str) -> Records:
    """Records as lines of a JSON file are, so that task, size, split and verifier of a spec work by themselves.

    Raises:
        ConfigError: for a name that is no number of questions.
    """
    if not name.isdecimal():
        raise ConfigError(f"'squares:{name}': '{name}' is no number of questions; write e.g. squares:40.")
    numbers = range(1, int(name) + 1)
    return Records("squares", ((f"squares:{i}", {"question": f"What is {i} * {i}?", "answer": i * i}) for i in numbers))
