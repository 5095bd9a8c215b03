"""What all benchmarks' results have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Figures"]

_DIGITS = 4


@dataclass(frozen=True)
class Figures:
    """Base of the figures of a benchmark."""

    def as_json(self) -> dict[str, Any]:
        """All figures, rounded to what they can carry."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value
