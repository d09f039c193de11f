"""Registries: implementations of one family by name, from this package and from other installed distributions.

A family is a folder; its registry is made in the folder's `__init__.py`:

    DETECTORS = Registry("detector", "faceshards.detectors", {"mtcnn": MTCNNDetector}, needs=("detect",))

Another distribution adds an implementation by an entry point, without a fork:

    [project.entry-points."faceshards.detectors"]
    my-detector = "mylab.faces:MyDetector"

Names of entry points are read from the metadata of installed distributions when a registry is first listed; the code
behind a name is imported when the name is first asked for, in each process that asks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from manifests.errors import ConfigError

T = TypeVar("T")


class Registry(MutableMapping[str, T], Generic[T]):
    """Implementations by name: built-in ones first, then those of entry points, sorted by name.

    Args:
        family: the word for an implementation in messages, such as `detector`.
        group: the entry point group, such as `faceshards.detectors`.
        own: the built-in implementations, in the order in which they are listed.
        needs: attributes that the object behind an entry point must have.
    """

    def __init__(self, family: str, group: str, own: Mapping[str, T], needs: Collection[str] = ()) -> None:
        self.family, self.group = family, group
        self.own = dict(own)
        self._needs = tuple(needs)

    @cached_property
    def entry_points(self) -> dict[str, EntryPoint]:
        """Entry points of the group by name, sorted."""
        return {found.name: found for found in sorted(entry_points(group=self.group), key=lambda one: one.name)}

    def origin(self, name: str) -> tuple[str, str] | None:
        """Return (distribution, version) of an implementation from an entry point; None for a built-in one."""
        found = self.entry_points.get(name)
        return None if found is None or found.dist is None else (found.dist.name, found.dist.version)

    def __getitem__(self, name: str) -> T:
        """Return an implementation; if an entry point provides it, it is imported.

        Raises:
            KeyError: there is none with this name.
            ConfigError: the entry point cannot be loaded, names an object of another kind, or has a built-in name.
        """
        found = self.entry_points.get(name)
        if found is None:
            return self.own[name]
        if name in self.own:
            raise ConfigError(
                f"{self.family} {name}: got a second one from {_source(found)}, expected a name that is not built in; "
                "rename that entry point, or uninstall its distribution"
            )
        return self._loaded(found)

    def __setitem__(self, name: str, implementation: T) -> None:
        """Add an implementation to this process alone; worker processes do not see it."""
        self.own[name] = implementation

    def __delitem__(self, name: str) -> None:
        """Remove a built-in implementation, or one that was set."""
        del self.own[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is one with this name; nothing is imported."""
        return name in self.own or name in self.entry_points

    def __iter__(self) -> Iterator[str]:
        """Yield the names; nothing is imported."""
        return iter(dict.fromkeys((*self.own, *self.entry_points)))

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.own.keys() | self.entry_points.keys())

    def _loaded(self, found: EntryPoint) -> T:
        try:
            implementation = found.load()
        except Exception as error:  # any exception may come from the code of another distribution
            raise ConfigError(
                f"{self.family} {found.name}: got {type(error).__name__} ({error}) from {_source(found)}, expected a "
                "module that can be imported; repair or uninstall that distribution"
            ) from error
        abstract: Collection[str] = getattr(implementation, "__abstractmethods__", ())
        missing = [name for name in self._needs if not hasattr(implementation, name) or name in abstract]
        if missing:
            raise ConfigError(
                f"{self.family} {found.name}: got an object without {', '.join(missing)} from {_source(found)}, "
                f"expected the contract of a {self.family}; see CONTRIBUTING.md"
            )
        return cast(T, implementation)


def _source(found: EntryPoint) -> str:
    """Return the distribution and the value of an entry point, for messages."""
    dist = "an unknown distribution" if found.dist is None else f"{found.dist.name} {found.dist.version}"
    return f"{dist} ({found.group}: {found.value})"
