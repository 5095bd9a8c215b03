"""The base of every configuration: frozen, and strict about its keys. A field's docstring is its help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from polar_env.errors import ConfigError, PolarError, UnknownNameError

__all__ = ["Config", "merged"]


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values; where both name a key, that of ``over`` counts."""
    inner = {
        key: merged(values[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(values.get(key), Mapping)
    }
    return {**values, **over, **inner}


class Config(BaseModel):
    """A frozen configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some values changed; what was computed from the old ones and kept is computed anew."""
        copy = super().model_copy(update=update, deep=deep)
        for name in set(copy.__dict__) - set(type(self).model_fields):
            del copy.__dict__[name]
        return copy

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str) -> Self:
        """A configuration from values by name.

        Args:
            values: the values.
            source: where they come from, for messages.

        Raises:
            UnknownNameError: for a key that does not exist; names the closest one.
            ConfigError: for a value that does not fit its key.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            cause = problem.get("ctx", {}).get("error")
            if isinstance(cause, PolarError):  # a validator has told it better
                raise cause from error
            *parents, key = [str(part) for part in problem["loc"]] or [""]
            if problem["type"] == "extra_forbidden":
                raise UnknownNameError(f"key in {source}", ".".join([*parents, key]), cls._keys(parents)) from error
            raise ConfigError(
                f"{source}: '{'.'.join([*parents, key])}' is {problem['input']!r}: {problem['msg'].rstrip('.')}."
            ) from error

    @classmethod
    def _keys(cls, parents: list[str]) -> list[str]:
        """The full names of the keys that exist beside a wrong one."""
        fields = cls.model_fields
        for name in parents:
            fields = fields[name].annotation.model_fields  # type: ignore[union-attr]
        return [".".join([*parents, name]) for name in fields]
