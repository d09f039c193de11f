"""Partial downloads: the bytes so far, and the validator that the rest belongs to the same file.

    .download-<name>    the first bytes of <name>, in the folder of the complete file
    .resume-<name>      JSON: the server's validator (ETag or date), and the length of the whole file, if it is known

Both names are the same in every run, so that a later run resumes where this one ended. Without a validator nothing
proves that the server's file is still the same, and the file is fetched from its beginning.
"""

from __future__ import annotations

import json
from io import FileIO
from pathlib import Path

from manifests.files import publish

BYTES_PREFIX, NOTE_PREFIX = ".download-", ".resume-"


class Partial:
    """The bytes fetched so far of one file.

    Args:
        target: path of the complete file; its folder is created when the first byte is written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(BYTES_PREFIX + target.name)
        self._note = target.with_name(NOTE_PREFIX + target.name)
        self.validator, self.total = self._read_note()

    @property
    def num_bytes(self) -> int:
        """Number of bytes fetched so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def resume_at(self) -> int:
        """Return the position to resume from; 0 if nothing proves that the file is the same."""
        return self.num_bytes if self.validator else 0

    def open_at(self, position: int) -> FileIO:
        """Open for writing at a position, in bytes; later bytes are cut off.

        Writing is not buffered: `num_bytes` is always right, and a kill loses no received byte.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("r+b" if position else "wb", buffering=0)
        file.seek(position)
        file.truncate()
        return file

    def restart(self, validator: str | None, total: int | None) -> None:
        """Discard the bytes, and write a note about the file that new bytes will belong to.

        Args:
            validator: strong ETag, or date of the last change; None if the server gives neither.
            total: length of the whole file, bytes; None if the server does not tell.
        """
        self.discard()
        self.validator, self.total = validator, total
        if validator:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps({"validator": validator, "total": total}), encoding="ascii")

    def discard(self) -> None:
        """Delete the bytes and the note."""
        self.validator = self.total = None
        self.path.unlink(missing_ok=True)
        self.forget()

    def finish(self) -> None:
        """Sync the bytes, rename the file to its final name, and delete the note."""
        publish(self.path, self.target)
        self.forget()

    def forget(self) -> None:
        """Delete only the note."""
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> tuple[str | None, int | None]:
        """Return validator and length; None for both if a kill left the note incomplete."""
        try:
            note = json.loads(self._note.read_text(encoding="ascii"))
            validator, total = note["validator"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, None
        if not isinstance(validator, str) or not isinstance(total, int | None):
            return None, None
        return validator, total
