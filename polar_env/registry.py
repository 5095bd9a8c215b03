"""Named parts that a package can add without changing this one: by an entry point, or by a decorator.

    [project.entry-points."polar_env.languages"]
    skip-one = "my_package:SkipOne"

offers a part to every command wherever the package is installed; nothing of it is imported before its name is asked
for. In a script or a notebook a decorator does the same for one process, ``@LANGUAGES.register("skip-one")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from polar_env.errors import ConfigError, UnknownNameError

__all__ = ["Registry"]

T = TypeVar("T")
Part = TypeVar("Part")


class Registry(Generic[T]):
    """Parts of one kind, by name: what was registered in this process, and what installed packages offer.

    Args:
        kind: what a part is, for messages, e.g. ``"action language"``.
        group: entry-point group in which packages offer parts.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._registered: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorate a part, to offer it under a name in this process.

        The same part may come again, as when a cell of a notebook is run twice.

        Raises:
            ConfigError: where another module has registered the name.
        """

        def decorate(part: Part) -> Part:
            before = self._registered.get(name)
            if before is not None and _origin(before) != _origin(part):
                raise ConfigError(self._taken(name, _origin(before), _origin(part)))
            self._registered[name] = cast("T", part)
            return part

        return decorate

    def get(self, name: str) -> T:
        """The part of a name; the package that offers it is imported now.

        Raises:
            UnknownNameError: for a name that nobody offers; names the closest one.
            ConfigError: where several packages offer the name, or the one that does fails to load.
        """
        registered, points = self._registered.get(name), self._points.get(name, [])
        if len(points) > 1:
            raise ConfigError(self._taken(name, *map(_where, points)))
        if not points and registered is None:
            raise UnknownNameError(self.kind, name, self, self.hint)
        if not points:
            return cast("T", registered)
        part = self._load(points[0])
        if registered is not None and _origin(registered) != _origin(part):
            raise ConfigError(self._taken(name, _origin(registered), _where(points[0])))
        return part

    @property
    def hint(self) -> str:
        """What to do where a name is missing."""
        return f"A package that adds it must be installed; it has an entry point in the group '{self.group}'."

    def __iter__(self) -> Iterator[str]:
        """The names that there are, in alphabetical order; no package is imported."""
        return iter(sorted({*self._registered, *self._points}))

    def __contains__(self, name: object) -> bool:
        return name in self._registered or name in self._points

    @cached_property
    def _points(self) -> dict[str, list[EntryPoint]]:
        """What packages offer, by name; read once, since it takes some milliseconds."""
        points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            points.setdefault(point.name, []).append(point)
        return points

    def _load(self, point: EntryPoint) -> T:
        try:
            part = point.load()
        except Exception as error:  # whatever the import of a foreign package may raise
            raise ConfigError(
                f"{self.kind} '{point.name}' of {_where(point)} cannot be loaded: {type(error).__name__}: {error}. "
                "Mend or uninstall that package."
            ) from error
        if not callable(part):
            raise ConfigError(
                f"{self.kind} '{point.name}' of {_where(point)} is {part!r}, which cannot be called; its entry point "
                "names a function or a class, MODULE:NAME."
            )
        return cast("T", part)

    def _taken(self, name: str, first: str, second: str, *more: str) -> str:
        several = " and by ".join([first, second, *more])
        return f"{self.kind} '{name}' is offered by {several}; rename one, or uninstall its package."


def _origin(part: Any) -> str:
    """Where a part was defined."""
    return f"{part.__module__}:{getattr(part, '__qualname__', type(part).__qualname__)}"


def _where(point: EntryPoint) -> str:
    """The package that offers an entry point, and its module."""
    return f"{point.dist.name if point.dist else 'a package without a name'} ({point.value})"
