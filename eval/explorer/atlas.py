"""Where programs help: a recorded world as a map of questions by programs; a cell opens its question.

Letters: ``Q`` questions, ``P`` programs.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np
from numpy.typing import NDArray

from polar_env.errors import UnknownNameError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import RecordedWorld

__all__ = ["ORDERS", "atlas_html"]

Link = Callable[[Question, Program], str]
ORDERS = ("most helped first", "right programs", "as recorded")
"""How the questions of the map may be sorted."""
_COLOURS = {  # of (identity is right, program is right)
    (False, False): ("#f1f3f5", "both wrong"),
    (False, True): ("#1b7f3b", "the program is right where the identity is wrong"),
    (True, False): ("#b5381b", "the program is wrong where the identity is right"),
    (True, True): ("#b9d7c2", "both right"),
}


def atlas_html(world: RecordedWorld, link: Link, task: str | None, order: str, questions: int, programs: int) -> str:
    """The map, with a row for each question and a column for each program, the identity first.

    Args:
        world: the world, with its texts.
        link: the address of a question under a program.
        task: of which questions; None is all.
        order: of the questions, one of `ORDERS`.
        questions: most rows.
        programs: most columns: those that answer most questions which the identity and those before them do not.

    Raises:
        UnknownNameError: for an order or a task that there is not.
        ConfigError: if the world holds no texts.
    """
    world.require_texts("show its questions")
    if order not in ORDERS:
        raise UnknownNameError("order", order, ORDERS)
    rows = np.arange(len(world.questions)) if task is None else np.flatnonzero(world.tasks == task)
    if not len(rows):
        raise UnknownNameError("task", str(task), sorted(set(world.tasks.tolist())))
    right = world.arrays["right"]
    columns = _columns(right[rows], programs)
    rows = rows[_order(right[rows], order)][:questions]
    return _table(world, link, rows, columns)


def _columns(right: NDArray[np.bool_], most: int) -> list[int]:
    """The identity, then greedily whatever answers most questions that are not answered yet, ``right [Q, P]``."""
    columns, answered = [0], right[:, 0].copy()
    while len(columns) < min(most, right.shape[1]):
        gains = (right & ~answered[:, None]).sum(0) + right.mean(0)  # of equal gains the better program
        gains[columns] = -1
        columns.append(int(gains.argmax()))
        answered |= right[:, columns[-1]]
    return columns


def _order(right: NDArray[np.bool_], order: str) -> NDArray[np.intp]:
    """Places of the questions, ``right [Q, P]``."""
    counts = right.sum(1)
    if order == "as recorded":
        return np.arange(len(right))
    keys = -counts if order == "right programs" else -np.where(right[:, 0], -1, counts)
    return np.argsort(keys, kind="stable")


def _table(world: RecordedWorld, link: Link, rows: NDArray[np.intp], columns: list[int]) -> str:
    right = world.arrays["right"]
    head = "".join(
        f'<th scope="col" title="{world.programs[c]}: {right[:, c].mean():.0%} right"><span class="program">'
        f"{'identity' if c == 0 else world.programs[c]}</span></th>"
        for c in columns
    )
    body = []
    for row in rows:
        question = world.questions[row]
        cells = "".join(_cell(link, question, world.programs[c], right[row, 0], right[row, c]) for c in columns)
        body.append(f'<tr><th scope="row">{escape(question.text[:60])}</th>{cells}</tr>')
    legend = " ".join(f'<span style="background:{colour}">&emsp;</span> {says}' for colour, says in _COLOURS.values())
    return (
        f'<p class="quiet">{legend}</p><div class="wide"><table class="map">'
        f"<thead><tr><th>question</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(link: Link, question: Question, program: Program, identity: bool, right: bool) -> str:
    colour, says = _COLOURS[bool(identity), bool(right)]
    label = escape(f"{program}: {says}", quote=True)
    address = escape(link(question, program), quote=True)
    return f'<td style="background:{colour}"><a href="{address}" title="{label}" aria-label="{label}"></a></td>'
