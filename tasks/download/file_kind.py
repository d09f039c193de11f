"""Refusal of files of another kind than expected, so that a web page is not stored under a video's name."""

from __future__ import annotations

from enum import StrEnum

from manifests.datasets.file_kind import kind_of


class Content(StrEnum):
    """Expected kind of a file."""

    VIDEO = "video"
    ARCHIVE = "archive"
    WEIGHTS = "weights"


_ALLOWED = {
    Content.VIDEO: frozenset({"mp4"}),
    Content.ARCHIVE: frozenset({"zip", "tar", "gzip", "bzip2", "xz"}),
    Content.WEIGHTS: frozenset({"zip", "a PyTorch file"}),
}
_EXPECTED = {
    Content.VIDEO: "an MP4 video",
    Content.ARCHIVE: "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive",
    Content.WEIGHTS: "a file that torch.save wrote",
}


def refusal(head: bytes, content: Content, content_type: str = "") -> str | None:
    """Return why a file is not of the expected kind; None if it is.

    The first bytes decide. The type in the server's answer is only quoted, since many servers give none or a wrong one.
    """
    kind = kind_of(head)
    if kind in _ALLOWED[content]:
        return None
    claimed = f" (sent as {content_type.partition(';')[0].strip()})" if content_type else ""
    return f"got {kind}{claimed}, expected {_EXPECTED[content]}"
