"""`ManifestRow`: what became of one indexed file. `videos.parquet` holds one row for each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from manifests.entry import VideoEntry
from manifests.rejected import Reason, Rejected, Stage

Status = Literal["pending", "stored", "rejected"]

TIMED_STAGES = ("decode", "detect", "track", "align", "encode")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One indexed file and its fate; totals over these rows must add up to the index.

    Raises:
        ValueError: a status that contradicts the other fields.
    """

    video_id: str
    """The entry's, or the path of a file that could not be placed."""

    path: str
    """POSIX path relative to the dataset root."""

    entry: VideoEntry | None = None
    """Identity and measurements; None for a file that could not be placed."""

    status: Status = "pending"
    """`pending` until a shard holds the video or a stage has rejected it."""

    stage: Stage | None = None
    """Where it was rejected."""

    reason: Reason | None = None
    """Why it was rejected, for programs."""

    detail: str | None = None
    """Why it was rejected, for a person."""

    config_digest: str | None = None
    """Hex SHA-256 of the settings under which the status was reached; None for a rejection that no setting changes."""

    relatives_digest: str | None = None
    """Hex SHA-256 of what the records depend on of other videos, an original or a fake's mask; None: of nothing."""

    shard: str | None = None
    """File name of the shard that holds the records, or the rejection."""

    num_records: int = 0
    """Records stored."""

    frames_wanted: int = 0
    """Frames that the sampling rule asked for."""

    frames_got: int = 0
    """Frames that were decoded."""

    num_interpolated: int = 0
    """Stored frames whose box comes from neighbouring frames."""

    num_faces: int = 0
    """Faces seen in all sampled frames together."""

    num_tracks: int = 0
    """People seen: the stored track and its runners-up."""

    num_masks: int = 0
    """Stored frames with a manipulation mask."""

    num_dropped: int = 0
    """Clips of the main face that were not stored, because too few of their frames show it."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by stage, keys from TIMED_STAGES."""

    def __post_init__(self) -> None:
        """Refuse what the type checker cannot see."""
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
        """Return this row with the reason why its video was dropped."""
        return replace(self, status="rejected", stage=rejected.stage, reason=rejected.reason, detail=rejected.detail)
