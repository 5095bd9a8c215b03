"""The exception tree: every message says what was given, what was expected, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AssetError",
    "CacheError",
    "ClusterError",
    "ConfigError",
    "EpisodeError",
    "FingerprintError",
    "ForbiddenActionError",
    "HubError",
    "LeakError",
    "MemoryBoundError",
    "ModelError",
    "NonFiniteError",
    "PolarError",
    "ProgramError",
    "QuestionError",
    "QuestionFileError",
    "QuestionTooLongError",
    "TraceError",
    "UnknownNameError",
    "VectorEnvError",
]


class PolarError(Exception):
    """Base of all errors that a user can cause and mend; the CLI prints it without a traceback."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As a worker's process sends it: from its message, whatever arguments the constructor takes."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class ProgramError(PolarError, ValueError):
    """A program of layers is malformed, empty, or does not fit the model's depth."""


class EpisodeError(PolarError, RuntimeError):
    """An environment was stepped outside an episode."""


class ForbiddenActionError(PolarError, ValueError):
    """An action was taken that the action mask forbids."""


class QuestionError(PolarError, ValueError):
    """A set of questions cannot be made or used as asked."""


class QuestionFileError(QuestionError):
    """A line of a question file is broken; the message names file, line and field."""


class QuestionTooLongError(QuestionError):
    """A question with its prompt does not fit the model's context."""


class ModelError(PolarError, ValueError):
    """A model cannot be loaded or cannot be executed layer by layer."""


class NonFiniteError(PolarError, ArithmeticError):
    """A layer made NaN or infinite hidden states; the message names the position and the layer."""


class CacheError(PolarError, ValueError):
    """A KV cache was asked for tokens that it does not hold."""


class MemoryBoundError(PolarError, ValueError):
    """A memory bound is too small for what it must hold; the message says how much that needs."""


class AssetError(PolarError, RuntimeError):
    """A named asset could not be fetched, or what was fetched is not what was expected."""


class HubError(PolarError, RuntimeError):
    """The Hugging Face hub refused, could not be reached, or has not what was asked for."""


class ClusterError(PolarError, RuntimeError):
    """A cluster of workers cannot be reached, or went away; the message says what is kept and how to go on."""


class ConfigError(PolarError, ValueError):
    """A configuration file or flag is wrong."""


class FingerprintError(PolarError, ValueError):
    """A trace set, checkpoint or agent was made with another model, prompt or schema."""


class LeakError(PolarError, ValueError):
    """Questions to be evaluated on were also used for training."""


class TraceError(PolarError, ValueError):
    """A trace set is missing, empty or damaged."""


class UnknownNameError(PolarError, ValueError):
    """A name is not among those that exist.

    Args:
        kind: what the name is meant to name, e.g. ``"model"``.
        name: the name that was given.
        names: the names that exist.
        hint: what else would be accepted.
    """

    def __init__(self, kind: str, name: str, names: Iterable[str], hint: str = "") -> None:
        names = sorted(names)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        message = f"unknown {kind} '{name}'."
        if close:
            message += f" Did you mean '{close[0]}'?"
        message += f" There is: {', '.join(names)}."
        if hint:
            message += f" {hint}"
        super().__init__(message)


class VectorEnvError(PolarError, AssertionError):
    """A vector environment breaks its contract; the message names lane and step, what was expected and the mend."""
