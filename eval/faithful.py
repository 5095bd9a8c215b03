"""Does a recorded world say what its LLM does? A sample is executed again: verdicts, confidences and states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.statistics import Estimate, share
from eval.table import Table
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld, RecordedWorld, ReducedAsks, Unstable

__all__ = ["Faithfulness", "compare_with_live", "faithfulness_table", "unstable_verdicts"]


@dataclass(frozen=True)
class Faithfulness:
    """How a live world differs from the record of it.

    Attributes:
        verdicts: share of verdicts that are the same.
        fixes: the same among right programs for questions that the identity gets wrong; None where the sample has none.
        log_prob: largest difference of the gold answer's log-probability in nats.
        confidence: largest difference of the first token's probability.
        states: largest difference of a reduced state, as a share of the largest component there is.
    """

    verdicts: Estimate
    fixes: Estimate | None
    log_prob: float
    confidence: float
    states: float


def compare_with_live(world: RecordedWorld, live: LiveWorld, pairs: int, seed: int = 0) -> Faithfulness:
    """Execute a sample of question-program pairs again.

    Args:
        world: the record.
        live: its LLM, in any floating-point type.
        pairs: how many; at most all.
        seed: of the sample.

    Raises:
        FingerprintError: if the live world is of another LLM or prompt.
    """
    world.require(live)
    rows, columns = _sample(world.arrays["right"].shape, pairs, seed)
    asked = [(world.questions[row], world.programs[column]) for row, column in zip(rows, columns, strict=True)]
    recorded = world.arrays["right"][rows, columns]
    verdicts = live.verdicts(asked)
    same = np.array([verdict.right for verdict in verdicts]) == recorded
    fixes = recorded & ~world.arrays["right"][rows, 0]
    own = live.asks.confidences([(question.ask, program.layers) for question, program in asked])
    identity, depths = world.identity.layers, world.card.depths
    states = [(question.ask, identity[: depths[i % len(depths)]]) for i, (question, _) in enumerate(asked)]
    recorded_states = world.asks.observations(states)
    differences = np.abs(ReducedAsks(live.asks, world.reduction).observations(states) - recorded_states)
    log_probs = np.array([verdict.log_prob for verdict in verdicts]) - world.arrays["log_prob"][rows, columns]
    return Faithfulness(
        verdicts=share(same),
        fixes=share(same[fixes]) if fixes.any() else None,
        log_prob=float(np.abs(log_probs).max()),
        confidence=float(np.abs(own - world.arrays["own"][rows, columns])[:, 0].max()),
        states=float(differences.max() / np.abs(recorded_states).max()),
    )


def unstable_verdicts(
    right: NDArray[np.bool_],
    questions: Sequence[Question],
    programs: Sequence[Program],
    live: LiveWorld,
    pairs: int,
    seed: int = 0,
) -> Unstable:
    """How many of a sample of verdicts change where a live world, of another floating-point type, gives them.

    Args:
        right: the verdicts, ``bool [Q, P]``.
        questions: ``Q`` questions.
        programs: ``P`` programs.
        live: gives them again.
        pairs: how many; at most all.
        seed: of the sample.
    """
    rows, columns = _sample(right.shape, pairs, seed)
    verdicts = live.verdicts([(questions[row], programs[column]) for row, column in zip(rows, columns, strict=True)])
    changed = np.array([verdict.right for verdict in verdicts]) != right[rows, columns]
    return Unstable(pairs=len(rows), changed=int(changed.sum()))


def faithfulness_table(found: Faithfulness) -> Table:
    """What ``polar record check --pairs`` prints."""
    return Table(
        ("executed again", "agreement"),
        [
            ("verdicts that are the same %", found.verdicts.percent()),
            ("the same, of fixes %", found.fixes.percent() if found.fixes else "no fixes in the sample"),
            ("log-probability, largest difference in nats", f"{found.log_prob:.4f}"),
            ("first token's probability, largest difference", f"{found.confidence:.4f}"),
            ("states, largest difference, share of the largest", f"{found.states:.4f}"),
        ],
    )


def _sample(shape: tuple[int, ...], count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of some cells of a table."""
    size = int(np.prod(shape))
    cells = np.random.default_rng(seed).choice(size, min(count, size), replace=False)
    rows, columns = np.unravel_index(cells, shape)
    return rows, columns
