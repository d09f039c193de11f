"""`Rejected`: a dropped video, with the stage that dropped it and the reason, one of a closed set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Stages of the dataflow that can reject a video, in their order."""

    INDEX = "index"
    PROBE = "probe"
    SPLIT = "split"
    SAMPLE = "sample"
    DECODE = "decode"
    DETECT = "detect"
    TRACK = "track"
    CROP = "crop"


class Reason(StrEnum):
    """Reasons for which a video is rejected. The set is closed: reports and users' scripts match on these words."""

    UNRECOGNISED_NAME = "unrecognised_name"  # the dataset has no file with such a name or in such a folder
    DUPLICATE = "duplicate"  # another file has the same video_id
    MISSING_FILE = "missing_file"  # the dataset's own list names it, but it is not on disk
    METADATA_CONFLICT = "metadata_conflict"  # the dataset's own list contradicts its folder or its file
    UNREADABLE = "unreadable"  # the file system cannot read it: gone, no permission, a broken disk
    EMPTY_FILE = "empty_file"  # zero bytes
    NOT_A_VIDEO = "not_a_video"  # no container that FFmpeg knows, or a broken one
    NO_VIDEO_STREAM = "no_video_stream"  # a container without moving pictures, such as audio only
    UNSUPPORTED = "unsupported"  # only some players show it, or only another decoder decodes it
    TOO_LARGE = "too_large"  # more pixels, packets or memory than may be used: see `limits.memory_per_worker`
    TRUNCATED = "truncated"  # the container promises more bytes or frames than it holds
    NOT_IN_SPLIT_LISTS = "not_in_split_lists"  # no list of splits names it
    TOO_SHORT = "too_short"  # shorter than one clip
    DECODE_ERROR = "decode_error"  # the decoder reports a broken stream
    DECODE_TIMEOUT = "decode_timeout"  # the decoder hung, and its process was killed
    SHORT_READ = "short_read"  # fewer frames were decoded than requested
    FRAME_COUNT_MISMATCH = "frame_count_mismatch"  # decoder and manifest count different numbers of frames
    NO_FACE = "no_face"  # no sampled frame shows a face
    LOW_COVERAGE = "low_coverage"  # too few sampled frames show the main face
    TOO_FEW_FACES = "too_few_faces"  # fewer frames with a good face than `frames.at_least` asks for
    FACE_TURNED = "face_turned"  # the face is sideways or upside down: the file's rotation is missing or wrong
    DEGENERATE_GEOMETRY = "degenerate_geometry"  # no similarity transform maps the face onto the crop
    CRASHED = "crashed"  # its worker process died twice (segmentation fault, out of memory), or a stage failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """One video that was indexed and has no records."""

    video_id: str
    """`/`-separated identity; for a file that cannot be placed in the dataset, its path relative to the root."""

    stage: Stage
    """Stage that rejected it."""

    reason: Reason
    """Reason, for programs."""

    detail: str
    """Reason in one line for a person, with the values found."""

    num_files: int = 1
    """Files on disk that it stands for: more for a folder that is rejected as a whole; see `num_files_on_disk`."""

    @property
    def num_files_on_disk(self) -> int:
        """Files on disk that it stands for; 0 where a list names a file that is not there."""
        return 0 if self.reason is Reason.MISSING_FILE else self.num_files
