"""What detectors and landmarkers have in common: packages and weight files, which should be there before a run."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol


class UsesModels(Protocol):
    """A stage that loads networks or other models."""

    weights: ClassVar[tuple[str, ...]]
    """Names in `tasks.models.weights.WEIGHTS` of the files that it loads."""

    uses_gpu: ClassVar[bool]
    """Whether it can run on a GPU."""

    @classmethod
    def require_models(cls, weights_dir: Path | None) -> None:
        """Check without loading anything that every package and file is there.

        Args:
            weights_dir: where weight files are looked for first; see `tasks/models/weights.py`.

        Raises:
            StageMissing: one is not.
        """
        ...

    @classmethod
    def model_files(cls, weights_dir: Path | None) -> dict[str, Path]:
        """Return the files that it loads beside its packages' own, by name; those that are not there are left out."""
        ...


class NeedsNoModels:
    """A stage that loads nothing but what its packages hold."""

    weights: ClassVar[tuple[str, ...]] = ()
    uses_gpu: ClassVar[bool] = False

    @classmethod
    def model_files(cls, weights_dir: Path | None) -> dict[str, Path]:
        """Load no file."""
        return {}

    @classmethod
    def require_models(cls, weights_dir: Path | None) -> None:
        """Need nothing."""
