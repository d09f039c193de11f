"""Check for turned pictures: videos that are sideways or upside down, since their rotation is missing or wrong.

Detectors find many turned faces, with boxes and landmarks that are wrong. So if many frames lack a face that is upright
for sure, a few frames are searched again with the picture turned. Ordinary videos have few such frames, and are not
searched again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from tasks.media import NUM_DETECTOR_LANDMARKS, NUM_IBUG_LANDMARKS, FaceDetection, Reason, Stage
from tasks.video.context import VideoContext
from tasks.video.frame_faces import FrameFaces

MAX_CHECKED = 4  # frames that are searched with the picture turned
LEAST_SUSPECT = 0.25  # share of frames without an upright face from which turned pictures are searched
LEAST_TURNED = 0.75  # share of the searched frames with a better face in one turned picture, for a rejection
LEAST_NOTED = 0.5  # such a share for a remark
# In 120 frames of five real clips all faces of MTCNN have at least 0.30, at most 0.12, and a score of at least 0.992.
# Turned by 90 degrees, no face has all three; turned by 180 degrees, some have, with a lower score than upright.
LEAST_EYES_TO_MOUTH = 0.28  # distance from the eyes down to the mouth, in heights of the box
MAX_SLANT = 0.5  # the same line's distance to the side, in distances down

# Number of landmarks → those of the eyes, and those of the mouth.
EYES_AND_MOUTH = {
    NUM_DETECTOR_LANDMARKS: (slice(0, 2), slice(3, 5)),
    NUM_IBUG_LANDMARKS: (slice(36, 48), slice(48, 68)),
}
DIRECTIONS = {1: "90 degrees counterclockwise", 2: "180 degrees", 3: "90 degrees clockwise"}


def require_upright(video: VideoContext, seen: Sequence[FrameFaces]) -> None:
    """Reject a video whose faces are turned in most frames; if they may be turned in some, add a remark.

    Args:
        video: the video.
        seen: searched frames of one shot.

    Raises:
        VideoRejected: the picture is turned.
    """
    sure_score = video.stages.finder.detector.sure_score
    if video.settings.track.turned == "store" or not sure_score:
        return
    scores = np.array([_best_score(one.faces) for one in seen])
    if np.mean(scores < sure_score) < LEAST_SUSPECT:
        return
    checked = np.unique(np.linspace(0, len(seen) - 1, MAX_CHECKED, dtype=np.int64))
    frames = np.array([seen[row].frame_index for row in checked], dtype=np.int64)
    quarters, num_turned = _best_turn(video, frames, np.maximum(scores[checked], sure_score))
    got = f"it in {num_turned} of {len(checked)} checked frames with the picture turned by {DIRECTIONS[quarters]}"
    if num_turned >= LEAST_TURNED * len(checked):
        raise VideoRejected(
            Stage.DETECT,
            Reason.FACE_TURNED,
            f"main face: got {got}, expected it upright; the rotation in the file is missing or wrong: set it with "
            f"`ffmpeg -display_rotation {90 * quarters} -i IN -c copy OUT` (FFmpeg 6 or newer), or keep the "
            "video with track.turned=store",
        )
    if num_turned >= LEAST_NOTED * len(checked):
        video.tally.remarks.append(f"the face is turned in some frames: got {got}")


def _best_score(faces: Sequence[FaceDetection]) -> float:
    """Return the highest score of the upright faces; 0 if there are none."""
    return max((face.score for face in faces if _is_upright(face)), default=0.0)


def _is_upright(face: FaceDetection) -> bool:
    """Return whether the mouth is well below the eyes; True without landmarks."""
    if len(face.landmarks) not in EYES_AND_MOUTH:
        return True
    eyes, mouth = EYES_AND_MOUTH[len(face.landmarks)]
    aside, down = (face.landmarks[mouth].mean(axis=0) - face.landmarks[eyes].mean(axis=0)).tolist()
    height = float(face.box_xyxy[3] - face.box_xyxy[1])
    return bool(down >= LEAST_EYES_TO_MOUTH * height and abs(aside) <= MAX_SLANT * down)


def _best_turn(
    video: VideoContext, frame_indices: npt.NDArray[np.int64], least_scores: npt.NDArray[np.float64]
) -> tuple[int, int]:
    """Return the quarter turns, counterclockwise, after which most frames show a better face, and their number.

    Args:
        video: the video.
        frame_indices: (T,) the frames to search.
        least_scores: (T,) score that an upright face must exceed.

    Raises:
        VideoRejected: a frame cannot be decoded.
    """
    counts = dict.fromkeys(DIRECTIONS, 0)
    for frames, _ in video.source.batches(frame_indices, with_masks=False):
        least = least_scores[np.searchsorted(frame_indices, frames.frame_indices)]
        for quarters in DIRECTIONS:
            turned = replace(frames, data=np.ascontiguousarray(np.rot90(frames.data, quarters, axes=(1, 2))))
            with video.tally.timed("detect"):
                found = video.stages.finder.detector.detect(turned)
            counts[quarters] += int((np.array([*map(_best_score, found)]) > least).sum())
    best = max(DIRECTIONS, key=counts.__getitem__)
    return best, counts[best]
