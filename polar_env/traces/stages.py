"""Where the verdicts of a trace set come from."""

from __future__ import annotations

__all__ = ["CHANCE", "IMPORTED", "MATRIX", "SINGLES", "TREE"]

TREE = "tree"
"""Stage of rows that a tree search made."""
MATRIX = "matrix"
"""Stage of rows of shared programs."""
CHANCE = "chance"
"""Stage of rows of random programs."""
SINGLES = "singles"
"""Stage of rows of random single edits of the identity."""
IMPORTED = "imported"
"""Stage of verdicts that another code base gave: they propose programs, but do not count as measured here."""
