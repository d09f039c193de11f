"""`VideoEntry`: one source video of a manifest, its labels and its measurements."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, get_args
from urllib.parse import quote

Label = Literal["real", "fake"]
Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)
MINIATURE: Final = "miniature-"  # before the name of the dataset that a miniature imitates
# Names of splits in users' lists and folders.
SPLIT_OF_WORD: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FAKE: Final = "fake"  # label of a manipulated video
REAL: Final = "real"  # label and kind of a video that is not manipulated
LABEL_AS_INTEGER: dict[Label, int] = {REAL: 0, FAKE: 1}
REAL_CLASS: Final = LABEL_AS_INTEGER[REAL]  # also where there are several classes: the first is the real one

# LMDB's longest key is 511 bytes; track and frame follow the video_id in it.
MAX_ID_BYTES = 480
MAX_COLLECTION_BYTES = 120
DIGEST_CHARACTERS = 24  # of a SHA-256 in hex: 96 bits


def video_id_from(dataset: str, collection: str, name: str) -> str:
    """Return a video_id in ASCII that is short enough for a key, from names that may be in any script.

    Names are escaped as in addresses. In a longer video_id, a digest replaces the end of a part that is too long.

    Args:
        dataset: registry name of the dataset.
        collection: the manipulation, or the dataset's name for its real footage.
        name: path of the video without its suffix, with slashes.
    """
    video_id = f"{dataset}/{quote(collection)}/{quote(name)}"
    if len(video_id) <= MAX_ID_BYTES:
        return video_id
    start = f"{dataset}/{_shortened(collection, MAX_COLLECTION_BYTES)}/"
    return start + _shortened(name, MAX_ID_BYTES - len(start))


def _shortened(name: str, max_bytes: int) -> str:
    """Return an escaped name of a limited length, different for different names."""
    escaped = quote(name)
    return escaped if len(escaped) <= max_bytes else cut_short(escaped, max_bytes, name)


def cut_short(escaped: str, max_bytes: int, name: str) -> str:
    """Return the beginning of an escaped name with a digest of the name."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARACTERS]
    # Neither an escaped byte nor a folder's separator is cut or left at the end.
    kept = re.sub("%.?$|/$", "", escaped[: max_bytes - len(digest) - 1])
    return f"{kept}~{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoEntry:
    """One source video: identity and labels from its name, measurements once it has been probed.

    Raises:
        ValueError: a field contradicts another one, or a path leaves the dataset.
    """

    video_id: str
    """Unique in a store: `<dataset>/<collection>/…/<name>`, such as `ffpp/Deepfakes/c23/519_515`."""

    path: str
    """POSIX path relative to the dataset root."""

    mask_path: str | None = None
    """POSIX path of the manipulation-mask video relative to the dataset root."""

    dataset: str
    """Registry name of the dataset: `ffpp`, `celeb_df`, …; two layouts of one dataset share it. `miniature-ffpp` for a
    miniature that `faceshards sample` made.
    """

    label: Label
    """As an integer: real 0, fake 1."""

    manipulation: str | None = None
    """The forgery's name, None for a real video."""

    compression: str | None = None
    """`raw`, `c23` or `c40`; None where the dataset has none."""

    target_id: str
    """The footage that is seen: for a real video its own id."""

    target_identity: str | None = None
    """The person in the footage; None where the dataset does not name it."""

    source_id: str | None = None
    """The donor of the face, a person like `target_identity`; None for real videos and where the dataset names none."""

    group_id: str
    """Leakage group, whose videos belong in one split: the connected component of targets and sources."""

    listed_split: Split | None = None
    """Split by a list that comes with the dataset, such as Celeb-DF's list of testing videos."""

    split: Split | None = None
    """None until assigned."""

    num_frames: int | None = None
    """Frames in the container; None until the video is probed, like all fields below."""

    fps: Fraction | None = None
    """Exact average frames per second."""

    width: int | None = None
    """Pixels, as displayed: after the container's rotation."""

    height: int | None = None
    """Pixels, as displayed."""

    rotation_degrees: int | None = None
    """Clockwise rotation that the container asks of a player: 0, 90, 180 or 270."""

    picture: str | None = None
    """Colours as the stream states them, what was applied to the picture, and what was not; None in older manifests."""

    num_bytes: int | None = None
    """Size of the video file."""

    mtime_ns: int | None = None
    """Modification time of the video file, nanoseconds since 1970; if time or size has changed, it is probed again."""

    mask_num_bytes: int | None = None
    """Size of the mask file."""

    mask_mtime_ns: int | None = None
    """Modification time of the mask file, nanoseconds since 1970."""

    sha256: str | None = None
    """Hex digest of the video file's bytes."""

    mask_sha256: str | None = None
    """Hex digest of the mask file's bytes."""

    frame_hashes: str | None = None
    """Perceptual hashes of a few frames in hex digits: see `manifests.probe.frame_hashes`."""

    def __post_init__(self) -> None:
        """Check what types do not express."""
        if self.label not in LABEL_AS_INTEGER:
            raise ValueError(f"label of {self.video_id}: got {self.label!r}, expected one of {list(LABEL_AS_INTEGER)}")
        for name in ("split", "listed_split"):
            if getattr(self, name) not in (*SPLITS, None):
                got = getattr(self, name)
                raise ValueError(f"{name} of {self.video_id}: got {got!r}, expected one of {list(SPLITS)} or None")
        if (self.label == "fake") == (self.manipulation is None):
            raise ValueError(
                f"manipulation of {self.video_id}: got {self.manipulation!r} for a {self.label} video, "
                "expected a name for a fake and None for a real one"
            )
        for relative in filter(None, (self.path, self.mask_path)):
            if relative.startswith("/") or ".." in relative.split("/"):
                raise ValueError(f"path of {self.video_id}: got {relative!r}, expected one below the dataset root")

    @property
    def label_as_integer(self) -> int:
        """0 for real, 1 for fake."""
        return LABEL_AS_INTEGER[self.label]

    @property
    def kind(self) -> str:
        """`real`, or the manipulation; reports count videos by it."""
        return self.manipulation or REAL

    @property
    def collection(self) -> str:
        """The second part of the video_id: the manipulation, or the dataset's name for its real footage."""
        parts = self.video_id.split("/")
        return parts[1] if len(parts) > 2 else ""

    @property
    def clip_id(self) -> str:
        """The video_id without its compression: equal for the same video at several compressions."""
        parts = self.video_id.split("/")
        return "/".join(parts[:2] + parts[3:] if len(parts) > 3 and parts[2] == self.compression else parts)

    @property
    def has_known_footage(self) -> bool:
        """Whether the footage is known; False for a fake whose target_id is its own name."""
        return self.label == REAL or not self.video_id.endswith(f"/{self.target_id}")

    @property
    def is_probed(self) -> bool:
        """Whether frames, size and digest have been measured."""
        return self.sha256 is not None

    @property
    def content_digest(self) -> str:
        """Hex SHA-256 over the digests of video and mask; together with the settings it determines a record's bytes.

        Raises:
            ValueError: the entry has not been probed.
        """
        if self.sha256 is None:
            raise ValueError(f"content digest of {self.video_id}: got an entry without sha256; probe it first")
        return hashlib.sha256(f"{self.sha256}:{self.mask_sha256 or ''}".encode()).hexdigest()
