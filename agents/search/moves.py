"""The moves of a search: edits of a whole program, or the construction of one from left to right.

A state is a tuple of layers, the executed sequence. Different moves may lead to the same state (a transposition).

Letters: ``D`` the model's depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import eq
from typing import Protocol

from agents.search.config import MctsConfig
from polar_env.program import Program
from polar_env.traces.tree import State

__all__ = ["CachedMoves", "Construction", "Edits", "Moves", "make_moves"]


class Moves(Protocol):
    """A space of programs as a graph of states."""

    depth: int
    """The model's depth."""
    root: State
    """The state of the identity program."""

    def children(self, state: State) -> list[State]:
        """The states one move away, each once, in a fixed order."""

    def program(self, state: State) -> Program:
        """The program that is evaluated at a state."""

    def least_layers(self, state: State, evaluated: bool) -> int:
        """A bound for pruning: every program evaluated from this state on executes at least so many layers.

        Args:
            state: the state.
            evaluated: whether the state's own program has a verdict.
        """


class Edits:
    """A state is a whole program; a move skips, repeats or (with ``any_order``) exchanges blocks of positions.

    Args:
        depth: the model's depth.
        config: which edits are moves.
    """

    def __init__(self, depth: int, config: MctsConfig) -> None:
        self.depth, self.config = depth, config
        self.root: State = tuple(range(depth))

    def children(self, state: State) -> list[State]:
        """All programs one edit away that keep the bounds on length and on executions of a layer."""
        most = self.config.max_visits
        return [e for e in dict.fromkeys(self._edits(state)) if e != state and _fits(e, self.depth, most)]

    def _edits(self, state: State) -> Iterator[State]:
        config, positions = self.config, len(state)
        for length in range(1, min(max(config.skip_block, config.repeat_block), positions) + 1):
            for start in range(positions - length + 1):
                end = start + length
                if length <= config.repeat_block:
                    for times in range(2, config.repeats + 1):
                        yield state[:start] + state[start:end] * times + state[end:]
                if length <= config.skip_block and length < positions:
                    yield state[:start] + state[end:]
        if config.any_order:
            blocks = range(1, config.repeat_block + 1)
            for first in blocks:
                for second in blocks:
                    for start in range(positions - first - second + 1):
                        middle, end = start + first, start + first + second
                        yield state[:start] + state[middle:end] + state[start:middle] + state[end:]

    def program(self, state: State) -> Program:
        """The state itself."""
        return Program(state)

    def least_layers(self, state: State, evaluated: bool) -> int:
        """The length of a program without a verdict; 1 for a program with one, which may lead to any program.

        A later edit could shorten the program, so this is a heuristic: most edits commute, and other paths reach most
        of the shorter programs.
        """
        return 1 if evaluated else len(state)


class Construction:
    """A state is the beginning of a program; a move executes one more layer, or stops (written as layer ``D``).

    The program of a state is its layers and then the rest of the normal pass, so that the root is the identity and
    every state has a program. A move skips at most a block ahead, or goes back to the first layer of a block
    that was executed last.

    Args:
        depth: the model's depth.
        config: how far a move may go.
    """

    def __init__(self, depth: int, config: MctsConfig) -> None:
        self.depth, self.config = depth, config
        self.root: State = ()

    def children(self, state: State) -> list[State]:
        """The normal pass's next layer first, then forward, backward, and the stop."""
        if state and state[-1] == self.depth:
            return []
        cursor = self._cursor(state)
        if self.config.any_order:
            nearest = [cursor, *range(cursor), *range(cursor + 1, self.depth)]
            may_stop = len(state) > 0
        else:
            forward = range(cursor, cursor + self.config.skip_block + 1)
            nearest = [*forward, *self._repeatable(state, cursor)]
            may_stop = len(state) > 0 and self.depth - cursor <= self.config.skip_block
        ahead = [(*state, layer) for layer in nearest if 0 <= layer < self.depth]
        most = self.config.max_visits
        children = [child for child in ahead if _fits(self.program(child).layers, self.depth, most)]
        return children + [(*state, self.depth)] * may_stop

    def _repeatable(self, state: State, cursor: int) -> Iterator[int]:
        """First layers of the blocks that end at the cursor and may be repeated once more in a row."""
        for length in range(1, self.config.repeat_block + 1):
            block = tuple(range(cursor - length, cursor))
            if state[-length:] == block and state[-length * self.config.repeats :] != block * self.config.repeats:
                yield block[0]

    def _cursor(self, state: State) -> int:
        """The layer that the normal pass would execute next."""
        return state[-1] + 1 if state else 0

    def program(self, state: State) -> Program:
        """The layers so far and, unless the state has stopped, the rest of the normal pass."""
        if state and state[-1] == self.depth:
            return Program(state[:-1])
        return Program((*state, *range(self._cursor(state), self.depth)))

    def least_layers(self, state: State, evaluated: bool) -> int:
        """The layers so far; unless layers come in any order, also those at the end that moves cannot skip."""
        if state and state[-1] == self.depth:
            return len(state) - 1
        if self.config.any_order:
            return len(state)
        # A move covers at most a skipped block and the layer behind it.
        left = self.depth - self._cursor(state)
        return len(state) + left // (self.config.skip_block + 1)


class CachedMoves:
    """The same moves with caches of the states used last, for trees that meet the same states.

    Args:
        moves: the moves.
        programs: the programs that a recorded world has; states of others are left out. None leaves out none.
    """

    def __init__(self, moves: Moves, programs: Sequence[Program] | None) -> None:
        self.depth, self.root, self.least_layers = moves.depth, moves.root, moves.least_layers
        self.program = lru_cache(maxsize=1 << 14)(moves.program)
        listed = None if programs is None else set(programs)

        def children(state: State) -> list[State]:
            return [child for child in moves.children(state) if listed is None or self.program(child) in listed]

        self.children = lru_cache(maxsize=512)(children)  # a state has hundreds of children, so keep few


def _fits(layers: State, depth: int, most: int) -> bool:
    """Whether a program keeps the bounds on its length and on the executions of one layer."""
    ordered = sorted(layers)  # a layer with more executions than ``most`` stands again ``most`` places further on
    return len(layers) <= 2 * depth and not any(map(eq, ordered, ordered[most:]))


def make_moves(depth: int, config: MctsConfig) -> Moves:
    """The moves of a configuration, for a model of ``depth`` layers."""
    return Edits(depth, config) if config.moves == "edits" else Construction(depth, config)
