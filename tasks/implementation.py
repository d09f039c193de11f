"""Base classes of every implementation, and of the sections of the configuration that choose one.

A family is a folder with a contract, a registry and implementations: `tasks/decode`, `detect`, `landmarks`, `align`.
The contract is a subclass of `Implementation`. An implementation of another distribution subclasses the contract, is
declared as an entry point, and may have settings of its own:

    class BlobDetector(FaceDetector):
        class Options(Settings):
            threshold: float = 0.5

        @classmethod
        def from_settings(cls, settings, *, device, weights_dir, lenience=1.0):
            return cls(settings.options_as(cls.Options).threshold * lenience)

They are set under `options` of the section, as in `--set detect.kind=blob --set detect.options.threshold=0.4`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Protocol, TypeVar, get_args

from annotated_types import GroupedMetadata
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from manifests.errors import StageMissing, did_you_mean
from tasks.models.weights import find, require


class Settings(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)

# Settings of an implementation from another distribution. An empty section is not stored.
Options = Annotated[
    SerializeAsAny[Settings],
    WithJsonSchema({"type": "object"}),
    Field(validate_default=True, exclude_if=lambda options: not type(options).model_fields),
]
NO_OPTIONS = Settings()


@dataclass(frozen=True, slots=True)
class Before:
    """Annotation of a setting: its value for stores that were made before the setting existed.

    Needed only if the default differs from the behaviour before the setting existed.
    """

    value: object
    """The value, of the setting's own type."""


@dataclass(frozen=True, slots=True)
class OneOf(GroupedMetadata):
    """Annotation for a string setting that must be a key of a registry.

    The names come from the registry, so that a new entry is accepted, listed in messages and drawn as a choice in
    Prefect's form without another line of code.
    """

    registry: Collection[str]
    """The allowed names, in the order in which they are listed."""

    or_none: bool = False
    """Whether None is allowed as well."""

    def __iter__(self) -> Iterator[object]:
        """Yield the validator and the JSON schema, as pydantic wants them."""
        yield AfterValidator(self._check)
        names = {"type": "string", "enum": list(self.registry)}
        yield WithJsonSchema({"anyOf": [names, {"type": "null"}]} if self.or_none else names)

    def _check(self, value: str | None) -> str | None:
        if value not in self.registry and not (self.or_none and value is None):
            known = ", ".join(self.registry) + did_you_mean(value or "", self.registry)
            raise PydanticCustomError("one_of", "expected one of {known}", {"known": known})
        return value


class Implementation:
    """Facts about an implementation before one is made; a contract adds those of its family."""

    Options: ClassVar[type[Settings]] = Settings
    """The implementation's own settings, the values of `options` in its section; none by default."""

    title: ClassVar[str] = ""
    """Its name in messages about missing packages and files, such as `detector mtcnn`."""

    packages: ClassVar[Mapping[str, str]] = {}
    """Importable name of each package that it needs → the expected version and how to install it, for messages."""

    weights: ClassVar[tuple[str, ...]] = ()
    """Names in `tasks.models.weights.WEIGHTS` of the weight files that it loads."""

    published: ClassVar[Mapping[str, str]] = {}
    """Name in `model_files` → published hex SHA-256, for model files that are not in `WEIGHTS`."""

    path_digests: ClassVar[Mapping[str, Callable[[Path], str]]] = {}
    """Setting that is a path → function that returns the digest of its contents, which is compared instead of the path.
    By default it is the digest of the file's bytes.
    """

    uses_gpu: ClassVar[bool] = False
    """Whether it can run on a GPU."""

    @classmethod
    def require_models(cls, weights_dir: Path | None) -> None:
        """Check without loading anything that every package and file exists.

        Args:
            weights_dir: folder that is searched first for weight files; see `tasks/models/weights.py`.

        Raises:
            StageMissing: a package or file is missing.
        """
        for module, expected in cls.packages.items():
            if find_spec(module) is None:
                raise StageMissing(f"{cls.title or cls.__name__}: got no package {module}, expected {expected}")
        for name in cls.weights:
            require(name, weights_dir)

    @classmethod
    def model_files(cls, weights_dir: Path | None) -> dict[str, Path]:
        """Return the existing model files that it loads, by name, except those inside its packages."""
        found = {name: find(name, weights_dir) for name in cls.weights}
        return {name: path for name, path in found.items() if path is not None}


def contract_of(family: type[Implementation]) -> tuple[str, ...]:
    """Return the names that an implementation must have: those of the family's class, most of which have defaults."""
    return tuple(name for name in dir(family) if not name.startswith("_"))


class Family(Protocol):
    """The part of a family's registry that a section of the configuration uses."""

    @property
    def own(self) -> Mapping[str, type[Implementation]]:
        """The implementations of faceshards by name."""
        ...

    def __getitem__(self, name: str, /) -> type[Implementation]: ...

    def __contains__(self, name: object, /) -> bool: ...

    def origin(self, name: str) -> tuple[str, str] | None:
        """Return (distribution, version) of an implementation from another distribution; None for our own."""
        ...


class Choice(Settings):
    """A section that chooses an implementation of one family; its last field is `options: Options = NO_OPTIONS`."""

    family: ClassVar[Family]
    chooser: ClassVar[str] = "kind"
    """The field that names the implementation."""

    @property
    def chosen(self) -> str:
        """The name of the implementation."""
        return str(getattr(self, self.chooser))

    def options_as(self, model: type[S]) -> S:
        """Return the options, as the model of the implementation that asks for them.

        Raises:
            TypeError: the options are those of another implementation.
        """
        options: object = getattr(self, "options", NO_OPTIONS)
        if not isinstance(options, model):
            raise TypeError(f"options of {self.chosen}: got {type(options).__name__}, expected {model.__name__}")
        return options

    def path_digest(self, name: str) -> Callable[[Path], str] | None:
        """Return the function that digests the path in a setting; None: the bytes of the file are digested."""
        for implementation in (self.family[self.chosen], *self.family.own.values()):
            if name in implementation.path_digests:
                return implementation.path_digests[name]
        return None

    @field_validator("options", mode="before", check_fields=False)
    @classmethod
    def _validate_options(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get(cls.chooser)  # an unknown kind has its own message
        return NO_OPTIONS if kind is None else validated_options(cls.family[kind], kind, value)


def validated_options(implementation: type[Implementation], name: str, value: object) -> Settings:
    """Return the options of an implementation as its own model.

    Args:
        implementation: the chosen implementation.
        name: its name, for the message.
        value: options by name, or a model of them.

    Raises:
        PydanticCustomError: the options do not fit the implementation; the message lists each fault.
    """
    try:
        return implementation.Options.model_validate(value.model_dump() if isinstance(value, Settings) else value)
    except ValidationError as error:
        names = ", ".join(implementation.Options.model_fields) or "none"
        faults = "; ".join(": ".join((*map(str, fault["loc"]), fault["msg"])) for fault in error.errors())
        raise PydanticCustomError(
            "options",
            "expected options of {name} ({names}): {faults}",
            {"name": name, "names": names, "faults": faults},
        ) from error


def path_fields(section: type[Settings]) -> Iterator[str]:
    """Yield the names of a section's settings that are paths."""
    for name, field in section.model_fields.items():
        if field.annotation is Path or Path in get_args(field.annotation):
            yield name


def with_paths(section: S, change: Callable[[str, Path], Path], prefix: str = "") -> S:
    """Return a section, or a model of sections, in which every path is replaced.

    Args:
        section: the settings.
        change: function of a setting's dotted name and its path, which returns another path.
        prefix: dotted name of the section, with a dot at its end.
    """
    changes: dict[str, object] = {}
    for name, value in section:
        if isinstance(value, Settings):
            changes[name] = with_paths(value, change, f"{prefix}{name}.")
        elif isinstance(value, Path):
            changes[name] = change(f"{prefix}{name}", value)
    return section.model_copy(update=changes)
