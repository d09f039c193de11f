"""`VideoEntry`: one source video, as the manifest knows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Literal, get_args

Label = Literal["real", "fake"]
Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)
LABEL_AS_INTEGER: dict[Label, int] = {"real": 0, "fake": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoEntry:
    """One source video: identity and labels from its name, measurements once it has been probed.

    Raises:
        ValueError: a field contradicts another one, or a path leaves the dataset.
    """

    video_id: str
    # unique in a store, `/`-separated, such as `ffpp/Deepfakes/c23/519_515`

    path: str
    # POSIX path relative to the dataset root

    mask_path: str | None = None
    # POSIX path of the manipulation-mask video relative to the dataset root

    dataset: str
    # name in the registry of datasets

    label: Label
    # as an integer: real 0, fake 1

    manipulation: str | None = None
    # the forgery's name, None for a real video

    compression: str | None = None
    # `raw`, `c23` or `c40`; None where the dataset has none

    target_id: str
    # the footage: for a real video its own id

    source_id: str | None = None
    # the donor of the face; None for a real video

    group_id: str
    # what must not cross splits: the connected component of targets and sources

    split: Split | None = None
    # None until assigned

    num_frames: int | None = None
    # frames that the container holds; None until probed, as everything below

    fps: Fraction | None = None
    # exact average frames per second

    width: int | None = None
    # pixels, as displayed: after the container's rotation

    height: int | None = None
    # pixels, as displayed

    rotation_degrees: int | None = None
    # clockwise rotation that the container asks of a player: 0, 90, 180 or 270

    num_bytes: int | None = None
    # size of the video file

    mtime_ns: int | None = None
    # when the video file was last modified, nanoseconds since 1970; with num_bytes, says whether to probe again

    mask_num_bytes: int | None = None
    # size of the mask file

    mask_mtime_ns: int | None = None
    # when the mask file was last modified, nanoseconds since 1970

    sha256: str | None = None
    # hex digest of the video file's bytes

    mask_sha256: str | None = None
    # hex digest of the mask file's bytes

    def __post_init__(self) -> None:
        """Refuse what the type checker cannot see."""
        if self.label not in LABEL_AS_INTEGER:
            raise ValueError(f"label of {self.video_id}: got {self.label!r}, expected one of {list(LABEL_AS_INTEGER)}")
        if self.split is not None and self.split not in SPLITS:
            raise ValueError(f"split of {self.video_id}: got {self.split!r}, expected one of {list(SPLITS)} or None")
        if (self.label == "fake") == (self.manipulation is None):
            raise ValueError(
                f"manipulation of {self.video_id}: got {self.manipulation!r} for a {self.label} video, "
                "expected a name for a fake and None for a real one"
            )
        for relative in filter(None, (self.path, self.mask_path)):
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                raise ValueError(f"path of {self.video_id}: got {relative!r}, expected one below the dataset root")

    @property
    def label_as_integer(self) -> int:
        """0 for real, 1 for fake."""
        return LABEL_AS_INTEGER[self.label]

    @property
    def is_probed(self) -> bool:
        """Whether frames, size and digest have been measured."""
        return self.sha256 is not None

    @property
    def content_digest(self) -> str:
        """Hex SHA-256 over the digests of video and mask: what a record's bytes depend on beside the configuration.

        Raises:
            ValueError: the entry has not been probed.
        """
        if self.sha256 is None:
            raise ValueError(f"content digest of {self.video_id}: got an entry without sha256; probe it first")
        return hashlib.sha256(f"{self.sha256}:{self.mask_sha256 or ''}".encode()).hexdigest()
