"""A dropped video is data: which one, in which stage, for which of a closed set of reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """The stages of the dataflow that can drop a video, in their order."""

    INDEX = "index"
    PROBE = "probe"
    SPLIT = "split"
    SAMPLE = "sample"
    DECODE = "decode"
    DETECT = "detect"
    TRACK = "track"
    CROP = "crop"


class Reason(StrEnum):
    """Why a video was dropped. The set is closed: reports and users' scripts match on these words."""

    UNRECOGNISED_NAME = "unrecognised_name"  # the file's name or place is not one of the dataset's
    DUPLICATE = "duplicate"  # another file already has this video's identity
    MISSING_FILE = "missing_file"  # the dataset's own list names it, and it is not on disk
    METADATA_CONFLICT = "metadata_conflict"  # the dataset's own list says otherwise than its folder or its file
    UNREADABLE = "unreadable"  # the file system does not give it: gone, no permission, a bad disk
    EMPTY_FILE = "empty_file"  # zero bytes
    NOT_A_VIDEO = "not_a_video"  # no container that FFmpeg knows, or a broken one
    NO_VIDEO_STREAM = "no_video_stream"  # a container without pictures, such as audio only
    TRUNCATED = "truncated"  # the container promises more frames than it holds
    NOT_IN_SPLIT_LISTS = "not_in_split_lists"  # the lists by which videos are split do not name it
    TOO_SHORT = "too_short"  # no clip of the asked length fits into it
    DECODE_ERROR = "decode_error"  # the decoder says that the stream is broken
    DECODE_TIMEOUT = "decode_timeout"  # the decoder hung and its process was ended
    SHORT_READ = "short_read"  # fewer frames came out than were asked for
    FRAME_COUNT_MISMATCH = "frame_count_mismatch"  # decoder and manifest count different numbers of frames
    NO_FACE = "no_face"  # no sampled frame shows a face
    LOW_COVERAGE = "low_coverage"  # the main face is missing in too many sampled frames
    TOO_FEW_FACES = "too_few_faces"  # fewer frames with a good face than `frames.at_least` asks for
    DEGENERATE_GEOMETRY = "degenerate_geometry"  # no similarity transform maps the face onto the crop
    CRASHED = "crashed"  # its worker process died twice (a segfault, out of memory), or a stage failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """One video that is in the index and not among the records."""

    video_id: str
    """`/`-separated identity; for a file whose name says nothing, its path relative to the dataset root."""

    stage: Stage
    """Where it was dropped."""

    reason: Reason
    """Why, for programs."""

    detail: str
    """Why, for a person: one line, with the values that were seen."""
