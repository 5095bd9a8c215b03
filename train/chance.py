"""The chance level of a search: as many random programs as it evaluated, on the same questions.

An oracle that may try hundreds of programs finds a right one for many questions by luck; what a search is worth is what
it finds beyond that. There are two levels: programs of 1 to 4 random edits, and random single edits, which break fewer
answers. Of the latter there are not many (228 for 30 layers and the preset ``fast``), so that a budget of 200 is nearly
all of them: a search that is no better reaches nothing below its root.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from agents.base import seeded_rng
from agents.search.config import MctsConfig
from agents.search.moves import Edits
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.traces import TraceSet, VerdictRow
from polar_env.traces.stages import CHANCE, SINGLES, TREE
from polar_env.worlds import LiveWorld

__all__ = ["evaluate_chance", "random_programs"]

_MOST_EDITS = {CHANCE: 4, SINGLES: 1}
"""Edits of a random program, at most, by the stage of its rows."""
_TRIES = 100


@lru_cache(maxsize=16)
def random_programs(depth: int, config: MctsConfig, count: int, most_edits: int, *seeds: object) -> tuple[Program, ...]:
    """The identity, and up to ``count`` other programs, each 1 to ``most_edits`` random edits away from it."""
    moves, rng = Edits(depth, config), seeded_rng("chance", *seeds)
    children_of = lru_cache(maxsize=512)(moves.children)
    drawn = {Program(moves.root): None}
    for _ in range(_TRIES * count):
        if len(drawn) > count:
            break
        state = moves.root
        for _ in range(int(rng.integers(1, most_edits + 1))):
            children = children_of(state)
            state = children[int(rng.integers(len(children)))] if children else state
        drawn[Program(state)] = None
    return tuple(drawn)


def evaluate_chance(
    world: LiveWorld,
    questions: Sequence[Question],
    traces: TraceSet,
    config: MctsConfig,
    seed: int = 0,
    in_flight: int = 32,
    on_verdicts: Callable[[int], None] = lambda _: None,
) -> int:
    """Evaluate random programs, and random single edits, on the questions that have a tree: as many as the tree has.

    Where trees share the order of their edits, questions share the random programs, too: one draw, so that intervals
    over questions do not cover the luck of the draw.

    Returns:
        How many groups of random programs, one of a question and a stage, were evaluated now.
    """
    table = traces.table(["question_id", "stage"])
    budget = Counter(table.loc[table["stage"] == TREE, "question_id"])
    done = set(zip(table["question_id"], table["stage"], strict=True))
    todo = [
        (question, stage)
        for stage in _MOST_EDITS
        for question in questions
        if question.id in budget and (question.id, stage) not in done
    ]
    for group in (todo[start : start + in_flight] for start in range(0, len(todo), in_flight)):
        asked = []
        for question, stage in group:
            own = () if config.shared_edits else (question.id,)
            count, most = budget[question.id] - 1, _MOST_EDITS[stage]
            drawn = random_programs(world.depth, config, count, most, seed, *own)
            asked += [(question, program, stage, order) for order, program in enumerate(drawn)]
        verdicts = world.verdicts([(question, program) for question, program, _, _ in asked])
        traces.append(
            [
                VerdictRow.of(question, program, verdict, world.depth, stage=stage, order=order)
                for (question, program, stage, order), verdict in zip(asked, verdicts, strict=True)
            ]
        )
        on_verdicts(len(asked))
    return len(todo)
