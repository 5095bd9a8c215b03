"""Action languages: how a sequence of discrete actions spells a program.

A language is a pair of pure functions over an immutable `Draft`: which actions are allowed (`mask`) and what an
action does (`apply`), plus the way back from a program to the actions that spell it (`encode`). Packages add languages
to `LANGUAGES`.

Axis letters: ``D`` the model's depth, ``A`` the number of actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polar_env.errors import ConfigError, ForbiddenActionError, ProgramError
from polar_env.program import MAX_BLOCK, Program
from polar_env.registry import Registry

__all__ = [
    "LANGUAGES", "ActionLanguage", "Draft", "LayersLanguage", "ListedLanguage", "SegmentsLanguage", "make_language",
]  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A partly written program.

    Attributes:
        layers: the layers executed so far.
        cursor: the layer that the normal pass would execute next, ``0 .. D``.
        module: the module executed last, which a repeat action repeats.
        repeated: True directly after a repeat, so that the next layer starts a new module.
        finished: True once the program is complete.
    """

    layers: tuple[int, ...] = ()
    cursor: int = 0
    module: tuple[int, ...] = ()
    repeated: bool = False
    finished: bool = False


class ActionLanguage(Protocol):
    """What an environment needs to know of a language."""

    n_actions: int
    max_layers: int

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        """Which actions are allowed, ``bool [A]``, True = allowed; at least one is while unfinished."""

    def apply(self, draft: Draft, action: int) -> Draft:
        """The draft after an allowed action; raises ForbiddenActionError for any other."""

    def encode(self, program: Program) -> list[int]:
        """The actions that spell a program; raises ProgramError where the language cannot spell it."""

    def describe(self, action: int) -> str:
        """The action in words."""


LANGUAGES: Registry[Callable[[int, int | None], ActionLanguage]] = Registry("action language", "polar_env.languages")
"""What makes a language from the model's depth and the cap on layers, by name."""


class _Language:
    """What both languages share: the depth, the cap on layers, and refusing forbidden actions.

    Args:
        depth: the model's depth ``D``.
        max_layers: most layers that a program may execute; None is ``2 * depth``.
    """

    n_actions: int

    def __init__(self, depth: int, max_layers: int | None = None) -> None:
        self.depth = depth
        self.max_layers = 2 * depth if max_layers is None else max_layers
        if self.max_layers < 1:
            raise ConfigError(f"max_layers is {max_layers}; a program needs room for at least one layer.")

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        raise NotImplementedError

    def describe(self, action: int) -> str:
        raise NotImplementedError

    def _require_allowed(self, draft: Draft, action: int) -> None:
        if not 0 <= action < self.n_actions:
            raise ForbiddenActionError(f"action {action} does not exist: actions are 0 to {self.n_actions - 1}.")
        if not self.mask(draft)[action]:
            done = str(Program(draft.layers)) if draft.layers else "nothing"
            raise ForbiddenActionError(
                f"action {action} ({self.describe(action)}) is forbidden after executing {done}; "
                "choose among info['action_mask'] (True = allowed)."
            )

    def _require_length(self, program: Program) -> None:
        if len(program) > self.max_layers:
            raise ProgramError(f"program '{program}' has {len(program)} layers; max_layers allows {self.max_layers}.")


@LANGUAGES.register("layers")
class LayersLanguage(_Language):
    """``Discrete(D + 2)``: execute layer ``a < D``; ``D`` repeats the last module; ``D + 1`` stops.

    The module that a repeat repeats is the run of consecutive layers since the last jump or repeat, at most
    `MAX_BLOCK` layers; directly after a repeat it is the same module again.

    Args:
        depth: the model's depth ``D``.
        max_layers: most layers that a program may execute; None is ``2 * depth``.
        window: how far from the layer that would come next an executed layer may lie; None is any layer.
    """

    def __init__(self, depth: int, max_layers: int | None = None, window: int | None = None) -> None:
        super().__init__(depth, max_layers)
        if window is not None and window < 0:
            raise ConfigError(f"window is {window}; it counts layers and is at least 0, or None for any layer.")
        self.window = depth if window is None else window
        self.n_actions = depth + 2
        self.repeat, self.stop = depth, depth + 1

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        """Which actions are allowed, ``bool [D + 2]``, True = allowed."""
        mask = np.zeros(self.n_actions, dtype=bool)
        left = self.max_layers - len(draft.layers)
        if left > 0:
            first = max(0, min(draft.cursor, self.depth - 1) - self.window)
            mask[first : min(self.depth, draft.cursor + self.window + 1)] = True
        mask[self.repeat] = 0 < len(draft.module) <= left
        mask[self.stop] = len(draft.layers) > 0
        return mask

    def apply(self, draft: Draft, action: int) -> Draft:
        """The draft after ``action``."""
        self._require_allowed(draft, action)
        if action == self.stop:
            return replace(draft, finished=True)
        if action == self.repeat:
            return Draft(draft.layers + draft.module, draft.cursor, draft.module, repeated=True)
        joins = draft.module and action == draft.module[-1] + 1 and not draft.repeated
        module = (*draft.module, action)[-MAX_BLOCK:] if joins else (action,)
        return Draft((*draft.layers, action), action + 1, module)

    def encode(self, program: Program) -> list[int]:
        """One action for each layer, then stop."""
        program.check(self.depth)
        self._require_length(program)
        cursor = 0
        for layer in program.layers:
            if abs(layer - min(cursor, self.depth - 1)) > self.window and layer != cursor:
                raise ProgramError(f"'{program}' jumps from layer {cursor - 1} to {layer}; window is {self.window}.")
            cursor = layer + 1
        return [*program.layers, self.stop]

    def describe(self, action: int) -> str:
        """The action in words."""
        if action < self.depth:
            return f"execute layer {action}"
        return "repeat the last module" if action == self.repeat else "stop and answer"


@LANGUAGES.register("segments")
class SegmentsLanguage(_Language):
    """``Discrete(12)``: at the cursor, (skip, keep, repeat) x (1 .. 4 layers); the cursor moves right.

    The program is finished when the cursor reaches the depth. This is PoLar's space (arXiv 2606.06574, section 3).
    Action ``4 * operation + length - 1`` with operations skip 0, keep 1, repeat 2.
    """

    OPERATIONS = ("skip", "keep", "repeat")
    n_actions = len(OPERATIONS) * MAX_BLOCK

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        """Which actions are allowed, ``bool [12]``, True = allowed."""
        lengths = np.arange(1, MAX_BLOCK + 1)
        fits = draft.cursor + lengths <= self.depth
        left = self.max_layers - len(draft.layers)
        # A program executes at least one layer: skipping the rest is only open once something was executed.
        may_skip = fits & ((draft.cursor + lengths < self.depth) | (len(draft.layers) > 0))
        return np.concatenate([may_skip, fits & (lengths <= left), fits & (2 * lengths <= left)])

    def apply(self, draft: Draft, action: int) -> Draft:
        """The draft after ``action``."""
        self._require_allowed(draft, action)
        times, length = action // MAX_BLOCK, action % MAX_BLOCK + 1
        cursor = draft.cursor + length
        module = tuple(range(draft.cursor, cursor))
        return Draft(draft.layers + module * times, cursor, module, finished=cursor == self.depth)

    def encode(self, program: Program) -> list[int]:
        """The spelling of fewest modules, made from left to right."""
        program.check(self.depth)
        self._require_length(program)
        actions: list[int] = []
        cursor = 0
        for module in program.modules:
            length = module.last - module.first + 1
            if module.first < cursor or module.times > 2 or (module.times == 2 and length > MAX_BLOCK):
                raise ProgramError(
                    f"the segments language cannot spell '{program}': it moves right only and repeats "
                    f"1 to {MAX_BLOCK} layers once. Use the layers language."
                )
            actions += self._run(0, module.first - cursor) + self._run(module.times, length)
            cursor = module.last + 1
        return actions + self._run(0, self.depth - cursor)

    def _run(self, operation: int, length: int) -> list[int]:
        """One operation over ``length`` layers, in pieces of at most `MAX_BLOCK`."""
        pieces = [MAX_BLOCK] * (length // MAX_BLOCK) + ([length % MAX_BLOCK] if length % MAX_BLOCK else [])
        return [MAX_BLOCK * operation + piece - 1 for piece in pieces]

    def describe(self, action: int) -> str:
        """The action in words."""
        length = action % MAX_BLOCK + 1
        return f"{self.OPERATIONS[action // MAX_BLOCK]} {length} layer{'s' if length > 1 else ''}"


class ListedLanguage:
    """A language whose actions lead to listed programs only, such as those of a recorded world.

    Args:
        language: what spells programs.
        programs: the programs that may be spelt; those that the language cannot spell are left out.

    Raises:
        ConfigError: if the language spells none of them.
    """

    def __init__(self, language: ActionLanguage, programs: Sequence[Program]) -> None:
        self.language = language
        self.n_actions, self.max_layers = language.n_actions, language.max_layers
        self._listed = {program.layers for program in programs}
        self._prefixes = {layers[:length] for layers in self._listed for length in range(len(layers) + 1)}
        self._leads: dict[Draft, bool] = {}
        self._masks: dict[Draft, NDArray[np.bool_]] = {}
        if not self._leads_on(Draft()):
            raise ConfigError(
                f"none of {len(self._listed)} recorded programs can be spelt in this action language; choose another "
                "language, or a wider window."
            )

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        """Which actions lead on to a listed program, ``bool [A]``, True = allowed."""
        if draft not in self._masks:
            mask = self.language.mask(draft)
            for action in np.flatnonzero(mask).tolist():
                mask[action] = self._leads_on(self.language.apply(draft, action))
            self._masks[draft] = mask
        return self._masks[draft].copy()

    def apply(self, draft: Draft, action: int) -> Draft:
        """The draft after an allowed action; raises ForbiddenActionError for any other."""
        after = self.language.apply(draft, action)
        if not self._leads_on(after):
            raise ForbiddenActionError(
                f"action {action} ({self.describe(action)}) leads to no recorded program; choose among "
                "info['action_mask'] (True = allowed), or execute live."
            )
        return after

    def encode(self, program: Program) -> list[int]:
        """The actions that spell a program; raises ProgramError where the language cannot spell it."""
        return self.language.encode(program)

    def describe(self, action: int) -> str:
        """The action in words."""
        return self.language.describe(action)

    def _leads_on(self, draft: Draft) -> bool:
        """Whether some actions complete the draft to a listed program."""
        if draft not in self._leads:
            if draft.finished:
                self._leads[draft] = draft.layers in self._listed
            else:
                self._leads[draft] = draft.layers in self._prefixes and any(
                    self._leads_on(self.language.apply(draft, action))
                    for action in np.flatnonzero(self.language.mask(draft)).tolist()
                )
        return self._leads[draft]


def make_language(name: str, depth: int, max_layers: int | None = None, window: int | None = None) -> ActionLanguage:
    """The action language of that name for a model of ``depth`` layers.

    Args:
        name: one of `LANGUAGES`.
        depth: the model's depth ``D``.
        max_layers: most layers that a program may execute; None is what the language says, ``2 * depth`` of ours.
        window: see `LayersLanguage`.

    Raises:
        UnknownNameError: for a name not in `LANGUAGES`.
        ConfigError: for a cap or window that leaves no program, or a window of another language.
    """
    make = LANGUAGES.get(name)
    if make is LayersLanguage:
        return LayersLanguage(depth, max_layers, window)
    if window is not None:
        raise ConfigError(f"window is {window}, but the language is '{name}'; 'window' belongs to layers.")
    return make(depth, max_layers)
