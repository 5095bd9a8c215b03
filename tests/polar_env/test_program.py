from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polar_env.drawing import COLOURS
from polar_env.errors import ProgramError
from polar_env.program import Program, single_edits

SVG = "{http://www.w3.org/2000/svg}"
programs = st.lists(st.integers(0, 11), min_size=1, max_size=30).map(lambda layers: Program(tuple(layers)))
loops = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=6)


@given(programs)
def test_text_form_round_trips(program: Program) -> None:
    assert Program.parse(str(program)) == program


@given(loops)
def test_text_form_of_loops_round_trips(modules: list[tuple[int, int, int]]) -> None:
    layers = tuple(
        layer for first, more, times in modules for _ in range(times) for layer in range(first, first + more + 1)
    )
    assert Program.parse(str(Program(layers))).layers == layers


@given(programs)
def test_cost_adds_up(program: Program) -> None:
    assert program.cost(12) == pytest.approx(sum(program.executions(12)) / 12)
    assert sum(m.times * (m.last - m.first + 1) for m in program.modules) == len(program)


def test_example_of_the_compact_form() -> None:
    program = Program.parse("0-12 13-14x2 15-29")
    assert program.layers == (*range(13), 13, 14, 13, 14, *range(15, 30))
    assert str(program) == "0-12 13-14x2 15-29"
    assert program.cost(30) == pytest.approx(32 / 30)


def test_identity_costs_one() -> None:
    assert str(Program.identity(30)) == "0-29"
    assert Program.identity(30).cost(30) == 1.0


def test_single_edits_are_distinct_and_counted() -> None:
    edits = list(single_edits(Program.identity(30)))
    assert len(edits) == len(set(edits)) == 2 * (30 + 29 + 28 + 27)
    assert Program.identity(30) not in edits
    assert Program.parse("0-3 5-29") in edits
    assert Program.parse("0-6 7x2 8-29") in edits


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "empty"), ("0-3 x", "'x'"), ("5-3", "'5-3'"), ("0-3x0", "'0-3x0'"), ("0-30", "layer 30 is out of range")],
)
def test_bad_text_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program.parse(text, depth=30)


def test_negative_layer_is_refused() -> None:
    with pytest.raises(ProgramError, match="-1 is negative"):
        Program((-1, 2))


def test_a_notebook_shows_a_picture() -> None:
    """Well-formed, the same each time, with a number for each layer and a mark on the loop."""
    program = Program.parse("0-2 3x2 5-7")
    picture = program._repr_svg_()
    assert picture == program._repr_svg_()
    texts = ["".join(text.itertext()).strip() for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    assert {str(layer) for layer in range(8)} | {"×2", "0-2 3x2 5-7 (8 layers)"} == set(texts)
    assert picture.count(COLOURS["looped"]) > picture.count(COLOURS["skipped"]) == 1
