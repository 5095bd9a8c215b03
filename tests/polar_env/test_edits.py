from __future__ import annotations

import pytest

from polar_env.edits import changes_of, combined, kind_of, with_changes
from polar_env.program import Program, single_edits


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("0 2-5", "0-3 5", "0 2-3 5"),
        ("0-1x2 2-5", "0-3 4x2 5", "0-1x2 2-3 4x2 5"),
        ("0 2-5", "0-2 2-5", "0 2x2 3-5"),  # side by side
        ("0 3-5", "0-1 3-5", None),  # both change layer 2
        ("0-2x2 3-5", "0-2x2 3-5", None),
    ],
)
def test_combined_programs_make_both_changes(first: str, second: str, expected: str | None) -> None:
    found = combined(Program.parse(first), Program.parse(second), 6)
    assert found == (Program.parse(expected) if expected else None)


def test_changes_make_the_program_again() -> None:
    identity = Program.identity(7)
    assert changes_of(identity, 7) == []
    for edit in single_edits(identity):
        assert len(changes_of(edit, 7)) == 1
        assert with_changes(changes_of(edit, 7), 7) == edit
        for further in single_edits(edit):
            assert with_changes(changes_of(further, 7), 7) == further


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0-4", "identity"),
        ("0 2-4", "skip only"),
        ("0-1x2 2-4", "repeat only"),
        ("0x2 2-4", "both"),
        ("1 0 2-4", "order"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(Program.parse(text), 5) == kind
