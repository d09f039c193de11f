"""`ManifestRow`: one indexed file and its outcome; `videos.parquet` has one row for each file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from manifests.entry import VideoEntry
from manifests.rejected import Reason, Rejected, Stage

Status = Literal["pending", "stored", "rejected"]

TIMED_STAGES = ("decode", "detect", "track", "align", "encode")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One indexed file and its outcome; totals over these rows add up to the number of indexed files.

    Raises:
        ValueError: a status that contradicts the other fields.
    """

    video_id: str
    """The entry's video_id, or the path of a file that cannot be placed in the dataset."""

    path: str
    """POSIX path relative to the dataset root."""

    entry: VideoEntry | None = None
    """Identity and measurements; None for a file that cannot be placed in the dataset."""

    status: Status = "pending"
    """`pending` until a shard holds the video or a stage has rejected it."""

    stage: Stage | None = None
    """Stage that rejected it."""

    reason: Reason | None = None
    """Reason of the rejection, for programs."""

    detail: str | None = None
    """Reason of the rejection, for a person."""

    config_digest: str | None = None
    """Hex SHA-256 of the settings under which the status was reached; None for a rejection that no setting changes."""

    relatives_digest: str | None = None
    """Hex SHA-256 of the parts of other videos that the records depend on (original, mask of a fake); None if none."""

    shard: str | None = None
    """File name of the shard with the records, or with the rejection."""

    num_records: int = 0
    """Records stored."""

    frames_wanted: int = 0
    """Frames that the sampling rule requested."""

    frames_got: int = 0
    """Frames that were decoded."""

    num_interpolated: int = 0
    """Stored frames whose box comes from neighbouring frames."""

    num_faces: int = 0
    """Faces detected in all sampled frames together."""

    num_tracks: int = 0
    """Face tracks found: the stored one and all others."""

    num_masks: int = 0
    """Stored frames with a manipulation mask."""

    num_dropped: int = 0
    """Clips that were not stored because too few of their frames show the main face."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by stage, keys from TIMED_STAGES."""

    def __post_init__(self) -> None:
        """Check what types do not express."""
        explained = {self.reason is not None, self.stage is not None}
        if explained != {self.status == "rejected"}:
            raise ValueError(
                f"row of {self.video_id}: got status {self.status!r} with stage {self.stage} and reason {self.reason}, "
                "expected stage and reason for rejected videos and for no other"
            )
        if self.status == "stored" and (self.num_records == 0 or self.entry is None or self.shard is None):
            raise ValueError(
                f"row of {self.video_id}: got status 'stored' with {self.num_records} records in {self.shard}, "
                "expected an entry, a shard and at least one record"
            )

    def as_rejected(self, rejected: Rejected) -> ManifestRow:
        """Return this row as rejected."""
        return replace(self, status="rejected", stage=rejected.stage, reason=rejected.reason, detail=rejected.detail)
