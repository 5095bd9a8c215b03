"""Programs of layers: what they are, their text form, their cost, and the edits that lead from one to another.

Axis letters: ``D`` the model's depth, ``K`` positions of a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from polar_env.errors import ProgramError

__all__ = ["Module", "Program", "departure", "one_each", "single_edits"]

_MODULE = re.compile(r"(\d+)(?:-(\d+))?(?:x(\d+))?")
MAX_BLOCK = 4
"""Longest run of layers that one edit skips or repeats (CoLa, arXiv 2507.07996, section 3)."""


@dataclass(frozen=True)
class Module:
    """A run of consecutive layers ``first .. last``, executed ``times`` times in a row."""

    first: int
    last: int
    times: int = 1

    def __str__(self) -> str:
        layers = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return layers if self.times == 1 else f"{layers}x{self.times}"

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.times):
            yield from range(self.first, self.last + 1)


@dataclass(frozen=True)
class Program:
    """The ordered layers to execute; immutable, hashable, compared by the executed sequence.

    Args:
        layers: layer indices ``(i1, .., iK)``, at least one, each >= 0.

    Raises:
        ProgramError: if ``layers`` is empty or holds a negative index.
    """

    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        if not self.layers:
            raise ProgramError("the program is empty; a program executes at least one layer, e.g. '0-29'.")
        if min(self.layers) < 0:
            raise ProgramError(f"layer {min(self.layers)} is negative; layers are numbered from 0.")

    @classmethod
    def identity(cls, depth: int) -> Program:
        """The normal pass: every layer of a model of ``depth`` layers once, in order."""
        return cls(tuple(range(depth)))

    @classmethod
    def parse(cls, text: str, depth: int | None = None) -> Program:
        """Read the text form, e.g. ``"0-12 13-14x2 15-29"``.

        Args:
            text: modules separated by blanks; ``a``, ``a-b``, each with an optional ``xN``.
            depth: if given, the model's depth that the program must fit.

        Raises:
            ProgramError: for text that is no program, or a layer outside ``0 .. depth-1``.
        """
        layers: list[int] = []
        for word in text.replace(",", " ").split():
            match = _MODULE.fullmatch(word)
            if match is None:
                raise ProgramError(f"'{word}' is no module of a program; write '7', '3-5' or '3-5x2'.")
            first = int(match[1])
            module = Module(first, int(match[2] or first), int(match[3] or 1))
            if module.last < module.first or module.times < 1:
                raise ProgramError(f"'{word}' executes nothing; write the lower layer first and xN with N >= 1.")
            layers.extend(module)
        program = cls(tuple(layers))
        return program if depth is None else program.check(depth)

    def check(self, depth: int) -> Program:
        """Return the program itself if every layer exists in a model of ``depth`` layers.

        Raises:
            ProgramError: naming the first layer out of range.
        """
        for layer in self.layers:
            if layer >= depth:
                raise ProgramError(f"layer {layer} is out of range: the model has {depth} layers, 0 to {depth - 1}.")
        return self

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The program as modules: maximal consecutive runs, with immediate repetitions folded."""
        layers, modules, start = self.layers, [], 0
        while start < len(layers):
            module = _repeated_module(layers, start)
            if module is None:
                end = start + 1
                while (
                    end < len(layers) and layers[end] == layers[end - 1] + 1 and _repeated_module(layers, end) is None
                ):
                    end += 1
                module = Module(layers[start], layers[end - 1])
            modules.append(module)
            start += module.times * (module.last - module.first + 1)
        return tuple(modules)

    def __str__(self) -> str:
        return " ".join(map(str, self.modules))

    def __len__(self) -> int:
        return len(self.layers)

    def _repr_svg_(self) -> str:
        """What a notebook shows: a picture, up to the last layer that is executed."""
        from polar_env.drawing import program_svg

        return program_svg(self)

    def cost(self, depth: int) -> float:
        """Executed layers divided by ``depth``; the identity program costs 1.0."""
        return len(self.layers) / depth

    def layers_after(self, look: int) -> int:
        """How many layers run in all where the program is chosen after ``look`` layers of the identity: those that it
        does not begin with ran in vain.
        """
        return len(self) + look - min(look, departure(self.layers))

    def executions(self, depth: int) -> list[int]:
        """How often each of the ``depth`` layers is executed, ``[D]``."""
        counts = [0] * depth
        for layer in self.layers:
            counts[layer] += 1
        return counts

    def skip(self, start: int, length: int) -> Program:
        """The program without the ``length`` positions from position ``start`` on."""
        return Program(self.layers[:start] + self.layers[start + length :])

    def repeat(self, start: int, length: int, times: int = 2) -> Program:
        """The program with the ``length`` positions from position ``start`` on executed ``times`` times."""
        block = self.layers[start : start + length]
        return Program(self.layers[:start] + block * times + self.layers[start + length :])


def departure(layers: Sequence[int]) -> int:
    """How many layers are executed as the identity does, from the first on."""
    return next((i for i, layer in enumerate(layers) if layer != i), len(layers))


def one_each(programs: Program | Sequence[Program], rows: int) -> list[Program]:
    """A program for each of ``rows`` rows, from one for all or from one for each.

    Raises:
        ProgramError: if there are not as many programs as rows.
    """
    each = [programs] * rows if isinstance(programs, Program) else list(programs)
    if len(each) != rows:
        raise ProgramError(
            f"there are {rows} rows but {len(each)} programs; give one program for all rows, or one for each."
        )
    return each


def _repeated_module(layers: tuple[int, ...], start: int) -> Module | None:
    """The shortest consecutive run at ``start`` that follows itself at once, if there is one."""
    length = 1
    while start + 2 * length <= len(layers):
        block = layers[start : start + length]
        if length > 1 and block[-1] != block[-2] + 1:
            return None
        times = 1
        while layers[start + times * length : start + (times + 1) * length] == block:
            times += 1
        if times > 1:
            return Module(block[0], block[-1], times)
        length += 1
    return None


def single_edits(program: Program, max_block: int = MAX_BLOCK) -> Iterable[Program]:
    """All programs one edit away: skip or repeat once each run of 1 to ``max_block`` positions.

    Yields each distinct program once, in a fixed order; for the identity of a model of depth ``D``
    these are ``2 * (D + (D-1) + .. )`` programs (228 for 30 layers and blocks of up to 4).
    """
    seen = {program}
    for length in range(1, min(max_block, len(program)) + 1):
        for start in range(len(program) - length + 1):
            edits = [program.repeat(start, length)]
            if length < len(program):
                edits.append(program.skip(start, length))
            for edit in edits:
                if edit not in seen:
                    seen.add(edit)
                    yield edit
