"""The contract of exporters: how a store is written for programs that do not read its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from manifests.errors import StoreError
from storage.store import RecordStore


class Exporter(ABC):
    """One format that a store can be exported to."""

    title: ClassVar[str]
    """What it writes, in a few words."""

    def export(self, store: RecordStore, directory: Path) -> int:
        """Write every record of a store into an empty folder.

        Args:
            store: the records, possibly of one split.
            directory: created if it does not exist; must be empty.

        Returns:
            The number of records.

        Raises:
            StoreError: the directory is not empty or cannot be written to.
            StoreCorrupt: a record is broken, or cannot be written in this format.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise StoreError(
                    f"export to {directory}: got a folder with files in it, expected an empty folder or a new one"
                )
            return self.write(store, directory)
        except OSError as error:
            raise StoreError(f"export to {directory}: got {error}, expected a folder to write to") from error

    @abstractmethod
    def write(self, store: RecordStore, directory: Path) -> int:
        """Write every record into an empty folder; return the number of records."""
