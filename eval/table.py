"""A table of text cells: the Markdown files and the HTML page show the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        header: name of each column.
        rows: cells of each row, as many as there are columns.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row has {len(row)} cells, the header {len(self.header)}: {list(row)}.")

    def markdown(self) -> str:
        """The table as Markdown, with every ``|`` of a cell escaped."""
        lines = [_line(self.header), "|---" * len(self.header) + "|"]
        return "\n".join(lines + [_line(row) for row in self.rows])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
