"""Search for `frames.at_least` frames that show the main face, by increasing effort, before a video is rejected.

1 visit     Detect faces in the wanted number of frames, evenly spaced, then in more frames, each as far as possible
            from all visited ones. Choose the main face among the people found.
2 steps     While frames are missing, search again the visited frames without the main face: with lower thresholds,
            then with the second detector, then enlarged, at the place where neighbouring frames show the main face.
3 choose    Take the wanted number of frames that show the main face, in the order of the visits, so that they stay
            evenly spread.

Each face records the step that found it (`FoundBy`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from storage.format.record import TrackChoice
from tasks.decode.sampling import farthest_first, frame_indices
from tasks.media import FaceDetection, FaceTrack, FoundBy, FrameBatch, Reason, Stage
from tasks.track.main_face import choose_main
from tasks.track.timeline import Timeline
from tasks.track.tracker import SeenTrack, fill_gaps
from tasks.video.context import VideoContext
from tasks.video.finder import FaceFinder
from tasks.video.frame_faces import (
    FrameFaces,
    faces_of_frames,
    mask_shares,
    no_face_detail,
    timeline_of,
    tracked,
)
from tasks.video.frames import Batch
from tasks.video.shots import Shots
from tasks.video.turned import require_upright

LEAST_MORE_VISITS = 8  # least number of frames in a further visit, since each makes decord read from the file's start
ENLARGED_BOXES = 2.0  # side of the square part of a frame that is enlarged, in longer sides of the face's box
ENLARGED_PX = 320  # side of that part after scaling: the face then has 160 px, in the middle of MTCNN's range


class FaceSearch:
    """The search for frames with the main face in one video.

    Args:
        video: the video, its finders, and the settings of the search.
    """

    def __init__(self, video: VideoContext) -> None:
        self._video = video
        self._settings = video.settings.frames
        self._stages = video.stages
        self._source = video.source
        self._tally = video.tally
        self._original_face = video.original_face
        self._finds_cuts = bool(video.settings.track.cut_threshold)
        self._shots = Shots(video)
        self._seen: dict[int, FrameFaces] = {}
        self._visited: list[int] = []  # in the order of the visits
        self._people: list[SeenTrack] = []
        self._main: SeenTrack | None = None
        self._choice: TrackChoice = "longest"
        self.timeline: Timeline
        """The frames visited so far."""

    def run(self) -> tuple[list[SeenTrack], SeenTrack, TrackChoice]:
        """Return all people, the main face and the rule that chose it; tracks are cut to the chosen frames.

        Raises:
            VideoRejected: too few frames show the main face after all steps.
        """
        self._visit()
        for step in self._steps():
            if self._num_lacking == 0:
                break
            step()
            self._track(is_settled=True)
        require_upright(self._video, [self._seen[number] for number in sorted(self._seen)])
        if self._main is None:
            raise VideoRejected(Stage.DETECT, Reason.NO_FACE, no_face_detail(len(self._seen)))
        if self._num_lacking:
            detail = (
                f"main face: got it in {len(self._main.track)} of {len(self._seen)} frames looked at, "
                f"expected {self._settings.at_least} (frames.at_least)"
            )
            raise VideoRejected(Stage.TRACK, Reason.TOO_FEW_FACES, detail)
        with_face = set(self._main.track.frame_indices.tolist())
        chosen = [number for number in self._visited if number in with_face][: self._settings.at_least]
        kept = [(person, _only(person, chosen)) for person in self._people]
        main = next(left for person, left in kept if person is self._main and left is not None)
        return [left for _, left in kept if left is not None and left is not main] + [main], main, self._choice

    @property
    def num_masked(self) -> int:
        """Number of visited frames whose mask is not empty."""
        return sum(seen.is_masked for seen in self._seen.values())

    @property
    def _num_lacking(self) -> int:
        """Number of frames with the main face that are still missing."""
        return max(0, self._settings.at_least - (0 if self._main is None else len(self._main.track)))

    def _visit(self) -> None:
        """Search frames until enough show the main face, or the limit of visits is reached."""
        num_frames, wanted = self._source.num_frames, self._settings.at_least
        most = max(wanted, self._settings.max_visits)
        next_ones = frame_indices("uniform", num_frames, count=wanted, stride=1).tolist()
        while next_ones:
            self._visited += next_ones
            self._tally.frames_wanted.update(next_ones)
            for batch in self._source.batches(np.array(sorted(next_ones), dtype=np.int64)):
                found = faces_of_frames(batch, self._stages.finder, self._tally, with_thumbnails=self._finds_cuts)
                self._seen |= {seen.frame_index: seen for seen in found}
                del batch
            self._track(is_settled=False)
            num_more = min(most - len(self._seen), max(self._num_lacking, LEAST_MORE_VISITS))
            next_ones = self._farthest(num_more) if self._num_lacking else []

    def _farthest(self, count: int) -> list[int]:
        """Return up to `count` more frames of the main face's shot, or of the video, far from those visited."""
        first, end = 0, self._source.num_frames
        if self._main is not None:
            first, end = self.timeline.span_of(self._main.track, end)
        visited = [number - first for number in self._visited if first <= number < end]
        return [first + number for number in farthest_first(end - first, visited, count)]

    def _track(self, *, is_settled: bool) -> None:
        """Link the faces seen so far into tracks.

        Args:
            is_settled: whether the main face stays the person chosen before, since faces found by later steps are less
                reliable.
        """
        seen = [self._seen[number] for number in sorted(self._seen)]
        # No absence ends a track, since the detector is expected to miss faces here.
        self.timeline = timeline_of(seen, self._shots.cuts(seen), None)
        with self._tally.timed("track"):
            tracker = tracked(seen, self.timeline.cuts, None)
        self._tally.num_faces, self._tally.num_tracks = tracker.num_faces, tracker.num_tracks
        self._people = tracker.tracks()
        if self._main is not None and is_settled:
            self._main = max(self._people, key=partial(_frames_in_common, self._main))
        elif self._people:
            self._main, self._choice = choose_main(self._people, self._original_face, self.timeline)

    def _steps(self) -> Iterable[Callable[[], None]]:
        """Return the steps after the visits; each finds less reliable faces than the one before."""
        lenient, second = self._stages.lenient_finder, self._stages.second_finder
        if lenient is not None:
            yield lambda: self._search_again(lenient, FoundBy.LOWER_THRESHOLDS)
        if second is not None:
            yield lambda: self._search_again(second, FoundBy.SECOND_DETECTOR)
        if lenient is not None:
            yield lambda: self._search_enlarged(lenient)

    def _search_again(self, finder: FaceFinder, found_by: FoundBy) -> None:
        """Search the frames that lack the main face with another finder."""
        for batch in self._source.batches(self._without_main()):
            for row, seen in enumerate(faces_of_frames(batch, finder, self._tally)):
                self._add(seen.frame_index, seen.faces, found_by, batch, row)
            del batch

    def _search_enlarged(self, finder: FaceFinder) -> None:
        """Search an enlarged part of the frame, where the neighbouring frames have the main face."""
        if self._main is None:
            return
        near = self.timeline.frame_indices[self.timeline.covers(self._main.track)]
        places = fill_gaps(self._main.track, np.intersect1d(self._without_main(), near))
        for batch in self._source.batches(places.frame_indices):
            for row, number in enumerate(batch[0].frame_indices.tolist()):
                box = places.boxes_xyxy[np.searchsorted(places.frame_indices, number)]
                with self._tally.timed("detect"):
                    found = _faces_in_enlarged(batch[0], row, box, finder)
                self._add(number, found, FoundBy.NEIGHBOURS, batch, row)
            del batch

    def _without_main(self) -> npt.NDArray[np.int64]:
        """Return the (T,) visited frames that do not show the main face, increasing."""
        with_face = set() if self._main is None else set(self._main.track.frame_indices.tolist())
        return np.array(sorted(self._seen.keys() - with_face), dtype=np.int64)

    def _add(self, number: int, faces: Sequence[FaceDetection], found_by: FoundBy, batch: Batch, row: int) -> None:
        """Add the faces to a frame that are not yet known in it."""
        known = self._seen[number].faces
        new = [replace(face, found_by=found_by) for face in faces if not any(_covers(one, face) for one in known)]
        merged = [*known, *new]
        shares = mask_shares(merged, batch[1], row)
        self._seen[number] = replace(self._seen[number], faces=merged, mask_shares=shares)


def _frames_in_common(before: SeenTrack, person: SeenTrack) -> int:
    """Return the number of frames in which two tracks have the same box."""
    shared, ours, theirs = np.intersect1d(before.track.frame_indices, person.track.frame_indices, return_indices=True)
    same = before.track.boxes_xyxy[ours] == person.track.boxes_xyxy[theirs]
    return int(same.all(axis=1).sum()) if len(shared) else 0


def _covers(known: FaceDetection, face: FaceDetection) -> bool:
    """Return whether the centre of a face lies in the box of a known face."""
    centre = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2
    return bool((known.box_xyxy[:2] <= centre).all() and (centre <= known.box_xyxy[2:]).all())


def _faces_in_enlarged(
    frames: FrameBatch, row: int, box_xyxy: npt.NDArray[np.float32], finder: FaceFinder
) -> list[FaceDetection]:
    """Return the faces that are found in an enlarged part of one frame and have their centre in the box."""
    height, width = frames.data.shape[1:3]
    centre, side = (box_xyxy[:2] + box_xyxy[2:]) / 2, float((box_xyxy[2:] - box_xyxy[:2]).max()) * ENLARGED_BOXES
    left, top = np.floor(centre - side / 2).clip(0, [width - 1, height - 1]).astype(int)
    right, bottom = np.ceil(centre + side / 2).clip([left + 1, top + 1], [width, height]).astype(int)
    scale = ENLARGED_PX / max(right - left, bottom - top)
    part = cv2.resize(
        frames.data[row, top:bottom, left:right], None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR
    )
    one = slice(row, row + 1)
    closer = FrameBatch(
        data=np.asarray(part, dtype=np.uint8)[None],
        frame_indices=frames.frame_indices[one],
        pts_seconds=frames.pts_seconds[one],
    )
    offset = np.array([left, top], dtype=np.float32)
    found = [
        replace(
            face,
            box_xyxy=face.box_xyxy / np.float32(scale) + np.tile(offset, 2),
            landmarks=face.landmarks / np.float32(scale) + offset,
        )
        for face in finder.find(closer)[0]
    ]
    place = FaceDetection(box_xyxy=box_xyxy, score=0.0, landmarks=np.empty((0, 2), dtype=np.float32))
    return [face for face in found if _covers(place, face)]


def _only(person: SeenTrack, frame_numbers: Sequence[int]) -> SeenTrack | None:
    """Return a person's track in some frames only; None if it is in none of them."""
    track: FaceTrack = person.track
    left = np.intersect1d(track.frame_indices, np.array(frame_numbers, dtype=np.int64))
    return replace(person, track=track.rows_at(left)) if len(left) else None
