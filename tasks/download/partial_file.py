"""Partial downloads: the bytes so far, and what proves that the rest belongs to the same file.

    .download-<name>    the first bytes of <name>, beside the place where it will stand
    .resume-<name>      JSON: the validator (ETag or date) that the server gave, and the whole length, if it said so

Both names stay the same from run to run, so that a later run goes on where this one ended. Without a validator nothing
proves that the server's file is still the same one, and the file is fetched from its beginning.
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
        target: where the whole file will stand; its folder is made when the first byte is written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(BYTES_PREFIX + target.name)
        self._note = target.with_name(NOTE_PREFIX + target.name)
        self.validator, self.total = self._read_note()

    @property
    def num_bytes(self) -> int:
        """How many bytes are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def resume_at(self) -> int:
        """Position from which the server may be asked to go on; 0 where nothing proves that it is the same file."""
        return self.num_bytes if self.validator else 0

    def open_at(self, position: int) -> FileIO:
        """Open for writing at a position, in bytes; what lay behind it is cut off.

        Not buffered: `num_bytes` is right at any moment, and a kill costs no byte that was received.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("r+b" if position else "wb", buffering=0)
        file.seek(position)
        file.truncate()
        return file

    def restart(self, validator: str | None, total: int | None) -> None:
        """Throw the bytes away and note what the new ones will belong to.

        Args:
            validator: strong ETag, or date of the last change; None where the server gives neither.
            total: length of the whole file, bytes; None where the server does not say.
        """
        self.discard()
        self.validator, self.total = validator, total
        if validator:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps({"validator": validator, "total": total}), encoding="ascii")

    def discard(self) -> None:
        """Throw away bytes and note."""
        self.validator = self.total = None
        self.path.unlink(missing_ok=True)
        self.forget()

    def finish(self) -> None:
        """Sync the bytes, give them their name, and remove the note."""
        publish(self.path, self.target)
        self.forget()

    def forget(self) -> None:
        """Remove the note alone."""
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> tuple[str | None, int | None]:
        """Return validator and length; a note that a kill left half-written says nothing."""
        try:
            note = json.loads(self._note.read_text(encoding="ascii"))
            validator, total = note["validator"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, None
        if not isinstance(validator, str) or not isinstance(total, int | None):
            return None, None
        return validator, total
