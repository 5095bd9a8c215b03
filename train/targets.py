"""Traces as arrays for imitation: what a search says about each action of the environment, state by state.

A program is a sequence of actions, so all programs evaluated on a question are a tree of action sequences. Each of its
states gets what the search tried behind every action: how many programs and their mean reward, beside the prior and the
mask. Each program counts once: a tree's own visits count a program again for every edit that was built upon it.

Axis letters: ``S`` states, ``A`` actions, ``K`` most layers of a state.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polar_env.actions import ActionLanguage, Draft, make_language
from polar_env.errors import ProgramError, TraceError
from polar_env.program import Program
from polar_env.traces import TraceSet
from polar_env.traces.stages import IMPORTED, TREE

__all__ = ["ActionTargets", "action_targets"]


@dataclass(frozen=True)
class ActionTargets:
    """States of many questions, those first at which the search tried the most.

    Attributes:
        question_ids: the question of each state, ``[S]``.
        layers: layers executed so far, padded with -1, ``int16 [S, K]``.
        visits: programs evaluated behind each action, ``int64 [S, A]``.
        values: their mean reward, 0 where there are none, ``float64 [S, A]``.
        priors: alike for all that the mask allows, as the search's are, ``float64 [S, A]``.
        masks: allowed actions, ``bool [S, A]``, True = allowed.
        unspoken: programs that the action language cannot spell; they are left out.
    """

    question_ids: list[str]
    layers: NDArray[np.int16]
    visits: NDArray[np.int64]
    values: NDArray[np.float64]
    priors: NDArray[np.float64]
    masks: NDArray[np.bool_]
    unspoken: int


@dataclass
class _State:
    draft: Draft
    visits: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    totals: dict[int, float] = field(default_factory=lambda: defaultdict(float))


def action_targets(
    traces: TraceSet, language: str = "layers", layer_cost: float = 0.1, least_actions: int = 2
) -> ActionTargets:
    """All that trees say about the actions of the environment.

    Args:
        traces: holds trees, ours or imported ones.
        language: the environment's action language, ``layers`` or ``segments``.
        layer_cost: the reward is the verdict minus this, per executed layer / D.
        least_actions: leave out states where the search tried fewer different actions: they tell nothing.

    Raises:
        TraceError: if no state is left.
    """
    spelling = make_language(language, traces.depth)
    states: dict[str, dict[tuple[int, ...], _State]] = defaultdict(dict)
    unspoken = 0
    for row in traces.verdict_rows():
        if row.stage not in (TREE, IMPORTED):
            continue
        program = Program.parse(row.program)
        try:
            actions = spelling.encode(program)
        except ProgramError:
            unspoken += 1
            continue
        _walk(states[row.question_id], spelling, actions, row.right - layer_cost * row.cost)
    kept = [(q, s) for q, of_question in states.items() for s in of_question.values() if len(s.visits) >= least_actions]
    if not kept:
        raise TraceError(f"{traces.folder} holds no state at which a search tried {least_actions} actions or more.")
    kept.sort(key=lambda pair: (-len(pair[1].visits), pair[0], pair[1].draft.layers))
    longest = max(len(state.draft.layers) for _, state in kept)
    layers = np.full((len(kept), longest), -1, np.int16)
    visits, totals = np.zeros((2, len(kept), spelling.n_actions))
    for row_number, (_, state) in enumerate(kept):
        layers[row_number, : len(state.draft.layers)] = state.draft.layers
        for action, count in state.visits.items():
            visits[row_number, action], totals[row_number, action] = count, state.totals[action]
    masks = np.stack([spelling.mask(state.draft) for _, state in kept])
    return ActionTargets(
        [question_id for question_id, _ in kept],
        layers,
        visits.astype(np.int64),
        totals / np.maximum(visits, 1),
        masks / masks.sum(1, keepdims=True),
        masks,
        unspoken,
    )


def _walk(states: dict[tuple[int, ...], _State], language: ActionLanguage, actions: list[int], reward: float) -> None:
    """Count one program at every state on its way."""
    draft = Draft()
    for step, action in enumerate(actions):
        state = states.setdefault(tuple(actions[:step]), _State(draft))
        state.visits[action] += 1
        state.totals[action] += reward
        draft = language.apply(draft, action)
