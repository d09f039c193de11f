"""The LRW alignment against the numbers of its description, and against a second implementation in plain loops.

The second implementation is `reference_alignment` of `benchmarks/alignment.py`: it was written from the description,
and shares no line with the aligner.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.alignment import ReferenceClip, psnr, reference_alignment
from manifests.errors import ConfigError, VideoRejected
from tasks.align.lrw import (
    STABLE_POINTS,
    LRWAligner,
    crop_start,
    load_mean_face,
    mean_face_digest,
    similarity,
    smoothed_landmarks,
)
from tasks.media import AlignedClip, FaceTrack, FrameBatch, Reason, Stage

REFERENCE = Path(__file__).resolve().parents[5] / "shared" / "reference"
HEIGHT, WIDTH = 240, 320
SAME_MATRIX = 1e-4  # crop pixels
SAME_CROP_DB = 45.0
TARGETS = np.array(list(STABLE_POINTS.values()))

# A face whose eight stable points are the mean face's own; the others lie around its middle, any numbers do.
FACE = np.random.default_rng(68).uniform((85, 85), (175, 185), (68, 2))
FACE[list(STABLE_POINTS)] = TARGETS

Points = npt.NDArray[np.float64]


def turned(points: Points, degrees: float, scale: float, shift: tuple[float, float]) -> Points:
    """Points after a rotation about the origin, a scaling and a shift."""
    angle = np.deg2rad(degrees)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved: Points = points @ rotation.T + np.array(shift)
    return moved


def moving_face(num_frames: int, seed: int = 0, noise_px: float = 1.5) -> Points:
    """(T,68,2) a face that drifts, turns, grows and speaks, measured with some noise."""
    rng = np.random.default_rng(seed)
    degrees, scale = rng.uniform(-25, 25), rng.uniform(0.5, 1.1)
    frames = []
    for number in range(num_frames):
        face = turned(FACE - 128, degrees + 1.3 * number, scale * (1 + 0.01 * number), (150 + 1.7 * number, 120))
        face[48:, 1] += 3 * np.sin(number)
        frames.append(face + rng.normal(0, noise_px, face.shape))
    return np.stack(frames)


def track_of(landmarks: Points, missing: list[int] | None = None, numbers: list[int] | None = None) -> FaceTrack:
    """A track with the landmarks of T frames, some of them flagged as interpolated."""
    count = len(landmarks)
    flags = np.zeros(count, dtype=np.bool_)
    flags[missing or []] = True
    return FaceTrack(
        track_id=0,
        frame_indices=np.array(range(count) if numbers is None else numbers, dtype=np.int64),
        boxes_xyxy=np.tile(np.array([100, 60, 200, 180], dtype=np.float32), (count, 1)),
        landmarks=landmarks.astype(np.float32),
        scores=np.ones(count, dtype=np.float32),
        interpolated=flags,
    )


def frames_of(numbers: list[int], seed: int = 0) -> FrameBatch:
    """Smooth pictures, each with colours of its own frame number."""
    pictures = []
    for number in numbers:
        coarse = np.random.default_rng(1000 * seed + number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        pictures.append(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    indices = np.array(numbers, dtype=np.int64)
    return FrameBatch(data=np.stack(pictures).astype(np.uint8), frame_indices=indices, pts_seconds=indices / 25)


def flags_of(clip: AlignedClip) -> list[int]:
    """Which rows of a clip are flagged as interpolated."""
    assert clip.interpolated is not None
    return np.flatnonzero(clip.interpolated).tolist()


def assert_as_reference(clip: AlignedClip, reference: ReferenceClip) -> None:
    """Fail unless both implementations see the same matrices, pixels and missing frames."""
    assert np.abs(clip.matrices - reference.matrices).max() < SAME_MATRIX
    assert clip.crops.shape == reference.crops.shape
    worst = min(psnr(ours, theirs) for ours, theirs in zip(clip.crops, reference.crops, strict=True))
    assert worst >= SAME_CROP_DB
    assert flags_of(clip) == np.flatnonzero(reference.missing).tolist()


# --- the numbers of the description ---


def reference_mean_face() -> Path:
    path = REFERENCE / "20words_mean_face.npy"
    if not path.is_file():
        pytest.skip(f"needs the mean face itself in {path}, which is not in the repository")
    return path


def test_the_golden_transform() -> None:
    """Only the stable points enter it, so that it holds for any face that has the mean face's."""
    shape = turned(FACE, 10, 1.7, (210.5, -33.25))
    golden = np.array([[0.579298683, 0.102145971, -118.546016], [-0.102145971, 0.579298683, 40.7634033]])
    matrix = similarity(shape, TARGETS)
    assert matrix is not None
    assert np.abs(matrix - golden).max() < 3e-6


@pytest.mark.parametrize(("centre", "start"), [(131.5466, 56), (120.3431, 45)])
def test_the_golden_crop(centre: float, start: int) -> None:
    assert crop_start(centre, 150) == start
    assert start + 150 in (206, 195)


def test_the_mean_face_itself_is_cut_where_the_description_says() -> None:
    mean_face = load_mean_face(reference_mean_face())
    clip = LRWAligner().align(frames_of([0]), track_of(mean_face[None]))
    assert clip.matrices[0] == pytest.approx(np.array([[1, 0, -56], [0, 1, -45]]), abs=1e-4)
    expected = frames_of([0]).data[0, 45:195, 56:206]
    assert psnr(clip.crops[0], expected) >= SAME_CROP_DB


def test_a_header_cannot_size_an_allocation(tmp_path: Path) -> None:
    path = tmp_path / "face.npy"
    for shape in ((625_000_000, 2), (10**18, 2), (10**40, 2)):
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
            file.write(bytes(1088))
        with pytest.raises(ConfigError, match=r"expected a \.npy file"):
            load_mean_face(path)
    os.truncate(path, 10 * 2**30)
    with pytest.raises(ConfigError, match=r"got .* \(a file of 10,737,418,240 bytes, more than 65,536\)"):
        load_mean_face(path)
    path.write_bytes(b"\x93NUMPY\x01\x00\x04\x00((((")
    with pytest.raises(ConfigError, match=r"expected a \.npy file"):
        load_mean_face(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="a pipe, not a regular file"):
        load_mean_face(path)


def test_the_stable_points_are_those_of_the_mean_face() -> None:
    mean_face = np.load(reference_mean_face())
    assert {number: tuple(mean_face[number]) for number in STABLE_POINTS} == STABLE_POINTS
    assert list(STABLE_POINTS) == [28, 33, 36, 39, 42, 45, 48, 54]


# --- against the second implementation ---


@pytest.mark.parametrize("seed", range(6))
def test_a_moving_face_as_the_reference_aligns_it(seed: int) -> None:
    num_frames = 17 + seed
    landmarks, frames = moving_face(num_frames, seed), frames_of(list(range(num_frames)), seed)
    clip = LRWAligner().align(frames, track_of(landmarks))
    reference = reference_alignment(frames.data, landmarks.astype(np.float32), [False] * num_frames)
    assert_as_reference(clip, reference)
    assert clip.landmarks.dtype == np.float32
    assert clip.frame_indices.tolist() == list(range(num_frames))


# Derandomized: OpenCV rounds its input to float32, and sums in another order may round to its neighbour, which moves a
# matrix by up to 8e-5 (7 of 4,800 rows that were tried).
@settings(max_examples=25, deadline=None, derandomize=True)
@given(num_frames=st.integers(1, 16), seed=st.integers(0, 10_000), data=st.data())
def test_gaps_as_the_reference_fills_them(num_frames: int, seed: int, data: st.DataObject) -> None:
    rows = list(range(num_frames))
    missing = data.draw(st.lists(st.sampled_from(rows), max_size=num_frames - 1, unique=True))
    landmarks, frames = moving_face(num_frames, seed), frames_of(rows, seed)
    clip = LRWAligner().align(frames, track_of(landmarks, missing))
    reference = reference_alignment(frames.data, landmarks.astype(np.float32), [row in missing for row in rows])
    assert_as_reference(clip, reference)


def test_the_mouth_as_the_reference_cuts_it() -> None:
    landmarks, frames = moving_face(9, 3), frames_of(list(range(9)), 3)
    clip = LRWAligner(crop_px=96).align(frames, track_of(landmarks))
    reference = reference_alignment(
        frames.data, landmarks.astype(np.float32), [False] * 9, crop_px=96, first_landmark=48
    )
    assert clip.crops.shape == (9, 96, 96, 3)
    assert_as_reference(clip, reference)


def test_the_mouth_is_in_the_middle_of_its_crop() -> None:
    clip = LRWAligner(crop_px=96).align(frames_of([0]), track_of(FACE[None]))
    assert clip.landmarks[0, 48:].mean(axis=0) == pytest.approx([48, 48], abs=1)


def test_crop_landmarks_are_the_measured_ones_under_the_matrix() -> None:
    """Not the smoothed: what is stored says where the eyes are in this frame's pixels."""
    landmarks = moving_face(9, 5)
    clip = LRWAligner().align(frames_of(list(range(9))), track_of(landmarks))
    for matrix, given_points, found in zip(clip.matrices, landmarks, clip.landmarks, strict=True):
        assert found == pytest.approx(given_points @ matrix[:, :2].T + matrix[:, 2], abs=1e-3)


# --- borders of the crop ---


@pytest.mark.parametrize(
    ("centre", "start"),
    [
        *((74.999, 1), (0.0, 1), (-300.0, 1), (75.0, 0), (75.999, 0), (76.0, 1), (128.7, 53)),
        *((181.0, 106), (181.001, 105), (256.0, 105), (900.0, 105), (180.999, 105)),
    ],
)
def test_a_crop_over_the_border_is_moved_inside(centre: float, start: int) -> None:
    """DFD-FCG's own numbers: 76 where `centre − 75 < 0`, 180 where `centre + 75 > 256`; the border itself is inside."""
    assert crop_start(centre, 150) == start
    assert 0 <= start <= 256 - 150


@given(st.floats(-1e6, 1e6), st.sampled_from([96, 150]))
def test_no_crop_reaches_over_the_border(centre: float, crop_px: int) -> None:
    assert 0 <= crop_start(centre, crop_px) <= 256 - crop_px


@pytest.mark.parametrize(
    ("shift", "left_top"),
    [((0, -200), (None, 1)), ((0, 200), (None, 105)), ((-200, 0), (1, None)), ((200, 0), (105, None))],
)
def test_far_landmarks_move_the_crop_to_the_border(
    shift: tuple[float, float], left_top: tuple[int | None, int | None]
) -> None:
    """All but the stable points are shifted: the transform is the identity, the crop's middle lies outside."""
    face = FACE + np.array(shift)
    face[list(STABLE_POINTS)] = TARGETS
    frames = frames_of([0])
    clip = LRWAligner().align(frames, track_of(face[None]))
    reference = reference_alignment(frames.data, face[None].astype(np.float32), [False])
    assert_as_reference(clip, reference)
    found = np.rint(-clip.matrices[0][:, 2]).tolist()
    assert all(wanted is None or wanted == got for wanted, got in zip(left_top, found, strict=True))


# --- smoothing ---


@pytest.mark.parametrize(("row", "reach"), [(0, 0), (1, 1), (3, 3), (6, 6), (9, 6), (13, 6), (16, 3), (18, 1), (19, 0)])
def test_the_window_shrinks_towards_the_ends(row: int, reach: int) -> None:
    points = moving_face(20, 1)
    mean = points[row - reach : row + reach + 1].mean(axis=0)
    expected = mean - mean.mean(axis=0) + points[row].mean(axis=0)
    assert smoothed_landmarks(points, row, np.ones(20, dtype=np.bool_)) == pytest.approx(expected, abs=1e-9)


def test_smoothing_keeps_the_centroid_and_takes_the_noise() -> None:
    points = FACE + np.random.default_rng(2).normal(0, 3, (41, 68, 2)) + np.arange(41)[:, None, None]
    smooth = smoothed_landmarks(points, 20, np.ones(41, dtype=np.bool_))
    assert smooth.mean(axis=0) == pytest.approx(points[20].mean(axis=0), abs=1e-9)
    shape = smooth - smooth.mean(axis=0) - (FACE - FACE.mean(axis=0))
    assert shape.std() < 1.5, "13 frames leave 3 / √13 of the noise"


# --- missing frames ---


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 0.0, -5000.0, 1e30])
def test_landmarks_of_missing_rows_do_not_matter(garbage: float) -> None:
    landmarks, missing = moving_face(14, 7), [0, 4, 5, 13]
    spoilt = landmarks.copy()
    spoilt[missing] = garbage
    frames = frames_of(list(range(14)))
    clean = LRWAligner().align(frames, track_of(landmarks, missing))
    clip = LRWAligner().align(frames, track_of(spoilt, missing))
    assert np.array_equal(clip.matrices, clean.matrices)
    assert np.array_equal(clip.crops, clean.crops)
    assert np.array_equal(clip.landmarks, clean.landmarks)
    assert flags_of(clip) == missing
    assert np.isfinite(clip.landmarks).all()


def test_missing_landmarks_lie_between_their_neighbours_and_as_at_the_ends() -> None:
    """A still face but for a shift from frame 2 to 6: every frame's transform can be computed by hand."""
    landmarks = np.stack([FACE + np.array([shift, 0]) for shift in (0, 0, 0, 999, 999, 999, 8, 8, 8)])
    clip = LRWAligner().align(frames_of(list(range(9))), track_of(landmarks, [0, 3, 4, 5, 8]))
    still = LRWAligner().align(frames_of([0]), track_of(FACE[None])).matrices[0]
    shifts = [0, 0, 0, 2, 4, 6, 8, 8, 8]
    # A shift to the right in the frame is one to the left in the matrix: the mean face stays.
    assert clip.matrices == pytest.approx(np.stack([still - [[0, 0, shift], [0, 0, 0]] for shift in shifts]), abs=1e-3)
    assert flags_of(clip) == [0, 3, 4, 5, 8]


def test_frames_without_a_row_are_interpolated() -> None:
    """They count as rows that are flagged: same matrices, same pixels, same flags."""
    landmarks, frames = moving_face(12, 9), frames_of(list(range(12)))
    seen = [1, 2, 5, 6, 7, 9, 10]
    clip = LRWAligner().align(frames, track_of(landmarks[seen], numbers=seen))
    gaps = sorted(set(range(12)) - set(seen))
    whole = LRWAligner().align(frames, track_of(landmarks, gaps))
    assert np.abs(clip.matrices - whole.matrices).max() < SAME_MATRIX
    assert np.array_equal(clip.crops, whole.crops)
    assert flags_of(clip) == gaps


def test_interpolation_counts_frames_not_rows() -> None:
    """Rows 0, 10 and 40 of a video: the middle one lies at a quarter of the way."""
    landmarks = np.stack([FACE, FACE + 999, FACE + np.array([40, 0])])
    clip = LRWAligner().align(frames_of([0, 10, 40]), track_of(landmarks, [1], numbers=[0, 10, 40]))
    left = clip.matrices[0][0, 2] - clip.matrices[1][0, 2]
    assert left == pytest.approx(10, abs=1e-3)


def test_batches_of_a_track_are_the_whole() -> None:
    landmarks, missing = moving_face(30, 11), [0, 8, 9, 10, 21]
    track, aligner = track_of(landmarks, missing), LRWAligner()
    whole = LRWAligner().align(frames_of(list(range(30))), track)
    for rows in (list(range(10)), list(range(10, 20)), [20, 25, 29], [3]):
        part = aligner.align(frames_of(rows), track)
        assert np.array_equal(part.matrices, whole.matrices[rows])
        assert np.array_equal(part.crops, whole.crops[rows])
        assert np.array_equal(part.landmarks, whole.landmarks[rows])
        assert flags_of(part) == [place for place, row in enumerate(rows) if row in missing]


def test_batches_of_a_track_that_lacks_rows_are_cut_too() -> None:
    """Frame 12, of the second batch, has no row: it is interpolated as it is in one go."""
    landmarks = moving_face(20, 12)
    seen = [number for number in range(20) if number not in (5, 12)]
    track, aligner = track_of(landmarks[seen], numbers=seen), LRWAligner()
    aligner.align(frames_of(list(range(10))), track)
    second = aligner.align(frames_of(list(range(10, 20))), track)
    assert flags_of(second) == [2]


def test_one_aligner_serves_several_tracks() -> None:
    aligner, frames = LRWAligner(), frames_of(list(range(8)))
    tracks = [track_of(moving_face(8, seed)) for seed in (1, 2)]
    for track in (*tracks, *tracks):
        assert np.array_equal(aligner.align(frames, track).matrices, LRWAligner().align(frames, track).matrices)


def test_a_plan_does_not_change_what_it_was_given() -> None:
    track, frames, aligner = track_of(moving_face(8, 1), [2]), frames_of(list(range(8))), LRWAligner()
    before = track.landmarks.copy()
    first = aligner.align(frames, track)
    first.matrices[:] = 0
    assert np.array_equal(track.landmarks, before)
    assert np.array_equal(aligner.align(frames, track).matrices, LRWAligner().align(frames, track).matrices)


# --- landmarks that no face has ---


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(np.full((68, 2), 33.0), id="one place"),
        pytest.param(np.zeros((68, 2)), id="zeros"),
        pytest.param(np.full((68, 2), np.nan), id="NaN"),
        pytest.param(np.where(np.arange(68)[:, None] == 36, np.nan, FACE), id="one NaN"),
        pytest.param(np.full((68, 2), np.inf), id="infinite"),
    ],
)
def test_landmarks_that_no_similarity_maps_count_as_missing(nonsense: Points) -> None:
    landmarks = np.stack([nonsense])
    with pytest.raises(VideoRejected) as rejection:
        LRWAligner().align(frames_of([0]), track_of(landmarks))
    assert (rejection.value.stage, rejection.value.reason) == (Stage.CROP, Reason.DEGENERATE_GEOMETRY)


def test_degenerate_rows_are_filled_from_the_others() -> None:
    """At the ends a row alone decides, for nothing is averaged there; its neighbours' averages must do without it."""
    landmarks = moving_face(12, 13)
    spoilt = landmarks.copy()
    spoilt[0], spoilt[11], spoilt[6, 3] = 33.0, 50.0, np.nan
    frames = frames_of(list(range(12)))
    clip = LRWAligner().align(frames, track_of(spoilt))
    known = LRWAligner().align(frames, track_of(landmarks, [0, 6, 11]))
    assert flags_of(clip) == [0, 6, 11]
    assert np.array_equal(clip.matrices, known.matrices)
    assert np.array_equal(clip.crops, known.crops)
    assert_as_reference(clip, reference_alignment(frames.data, spoilt.astype(np.float32), [False] * 12))


def test_what_lies_between_opposite_faces_stands_where_a_neighbour_does() -> None:
    """Halfway between a face and the same upside down all points are in one place: interpolated, and still no face."""
    middle = FACE.mean(axis=0)
    landmarks = np.stack([FACE, FACE + 999, 2 * middle - FACE])
    clip = LRWAligner().align(frames_of([0, 1, 2]), track_of(landmarks, [1]))
    assert flags_of(clip) == [1]
    assert np.isfinite(clip.matrices).all()
    assert any(np.allclose(clip.matrices[1], clip.matrices[row]) for row in (0, 2))


@pytest.mark.parametrize("strict", [False, True])
def test_a_track_without_any_face_is_a_rejection(strict: bool) -> None:
    landmarks = np.full((5, 68, 2), 33.0)
    for track in (track_of(landmarks), track_of(moving_face(5), [0, 1, 2, 3, 4])):
        with pytest.raises(VideoRejected, match="got none in 5 frames") as rejection:
            LRWAligner(strict=strict).align(frames_of([0, 1]), track)
        assert rejection.value.reason is Reason.DEGENERATE_GEOMETRY


# --- strict ---


def test_strict_writes_black_frames() -> None:
    landmarks, missing = moving_face(30, 15), [4, 20, 21]
    frames, masks = frames_of(list(range(30))), np.full((30, HEIGHT, WIDTH), 255, dtype=np.uint8)
    clip = LRWAligner(strict=True).align(frames, track_of(landmarks, missing), masks)
    assert clip.masks is not None
    black = [row for row in range(30) if not clip.crops[row].any()]
    assert black == missing == flags_of(clip)
    assert [row for row in range(30) if not clip.masks[row].any()] == missing
    assert np.isfinite(clip.matrices).all()


@pytest.mark.parametrize(("num_missing", "is_rejected"), [(0, False), (1, False), (2, True), (9, True)])
def test_strict_wants_nine_tenths_of_the_frames(num_missing: int, is_rejected: bool) -> None:
    """9 of 10 frames are 0.9 exactly, and that is enough."""
    track, frames = track_of(moving_face(10), list(range(num_missing))), frames_of([0, 9])
    LRWAligner().align(frames, track)
    if is_rejected:
        with pytest.raises(VideoRejected, match="expected at least 90%") as rejection:
            LRWAligner(strict=True).align(frames, track)
        assert (rejection.value.stage, rejection.value.reason) == (Stage.CROP, Reason.LOW_COVERAGE)
    else:
        LRWAligner(strict=True).align(frames, track)


@pytest.mark.parametrize("num_frames", [10, 20, 30, 70, 130, 300, 490])
def test_nine_tenths_is_not_missed_by_rounding(num_frames: int) -> None:
    track = track_of(np.repeat(FACE[None], num_frames, axis=0), list(range(num_frames // 10)))
    LRWAligner(strict=True).align(frames_of([0]), track)


def test_strict_counts_degenerate_rows_as_missing() -> None:
    landmarks = moving_face(10)
    landmarks[[0, 9]] = 33.0
    with pytest.raises(VideoRejected) as rejection:
        LRWAligner(strict=True).align(frames_of([0]), track_of(landmarks))
    assert rejection.value.reason is Reason.LOW_COVERAGE


def test_strict_averages_over_available_rows_only() -> None:
    """The shape that is averaged is told by a loop over the rows that are there."""
    landmarks, missing = moving_face(30, 17), [12, 16, 17]
    clip = LRWAligner(strict=True).align(frames_of([14]), track_of(landmarks, missing))
    given_points = landmarks.astype(np.float32).astype(np.float64)
    there = [row for row in range(14 - 6, 14 + 7) if row not in missing]
    mean = sum((given_points[row] for row in there), start=np.zeros((68, 2))) / len(there)
    shape = mean + given_points[14].mean(axis=0) - mean.mean(axis=0)
    expected = similarity(shape, TARGETS)
    assert expected is not None
    assert clip.matrices[0][:, :2] == pytest.approx(expected[:, :2], abs=1e-6)
    smooth = LRWAligner().align(frames_of([14]), track_of(landmarks, missing))
    assert np.abs(smooth.matrices[0] - clip.matrices[0]).max() > 1e-4, "interpolated rows enter the other average"


def test_strict_or_not_is_the_same_without_gaps() -> None:
    track, frames = track_of(moving_face(14, 19)), frames_of(list(range(14)))
    strict, lenient = LRWAligner(strict=True).align(frames, track), LRWAligner().align(frames, track)
    assert np.array_equal(strict.crops, lenient.crops)


# --- settings ---


def test_another_mean_face_is_used(tmp_path: Path) -> None:
    """One that is 10 px farther to the right moves every crop's content; its other points count for nothing."""
    path = tmp_path / "mean.npy"
    mean_face = np.random.default_rng(3).uniform(0, 256, (68, 2))
    mean_face[list(STABLE_POINTS)] = TARGETS + np.array([10, 0])
    np.save(path, mean_face)
    # All but the stable points in the middle, where no border of the crop is crossed in either case.
    face = np.full((68, 2), 128.25)
    face[list(STABLE_POINTS)] = TARGETS
    own, moved = (LRWAligner(mean_face=given).align(frames_of([0]), track_of(face[None])) for given in (None, path))
    # The crop goes along with the face: whole pixels, so that nothing but the corner changes.
    assert own.matrices[0] == pytest.approx(moved.matrices[0], abs=1e-3)
    np.save(path, np.clip(mean_face * [0.5, 0.5] + [64, 64], 0, 256))
    small = LRWAligner(mean_face=path).align(frames_of([0]), track_of(face[None]))
    assert np.linalg.det(small.matrices[0][:, :2]) == pytest.approx(0.25, abs=1e-4)


def test_a_mean_face_equal_to_the_built_in_changes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", FACE.clip(0, 256))
    track, frames = track_of(moving_face(5)), frames_of(list(range(5)))
    own, other = LRWAligner().align(frames, track), LRWAligner(mean_face=tmp_path / "mean.npy").align(frames, track)
    assert np.array_equal(own.crops, other.crops)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 2)), r"got float64 of shape \(5, 2\), expected real numbers of shape \(68, 2\)"),
        (np.zeros((68, 3)), r"shape \(68, 3\)"),
        (np.zeros((1, 68, 2)), r"shape \(1, 68, 2\)"),
        (np.full((68, 2), "a"), "expected real numbers"),
        (np.zeros((68, 2), dtype=np.bool_), "expected real numbers"),
        (np.full((68, 2), np.nan), "expected pixels of a 256×256 frame"),
        (np.full((68, 2), -0.5), "expected pixels of a 256×256 frame"),
        (np.full((68, 2), 256.5), "expected pixels of a 256×256 frame"),
    ],
)
def test_what_is_no_mean_face_is_refused(tmp_path: Path, array: npt.NDArray[np.generic], message: str) -> None:
    path = tmp_path / "mean.npy"
    np.save(path, array)
    with pytest.raises(ConfigError, match=message) as error:
        LRWAligner(mean_face=path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_a_mean_face_of_other_numbers_is_taken(tmp_path: Path, dtype: type[np.generic]) -> None:
    np.save(tmp_path / "mean.npy", FACE.round().astype(dtype))
    assert load_mean_face(tmp_path / "mean.npy").dtype == np.float64


def test_a_mean_face_of_complex_numbers_is_refused(tmp_path: Path) -> None:
    """They are numbers to NumPy, whose conversion drops the imaginary part."""
    np.save(tmp_path / "mean.npy", FACE.astype(np.complex128))
    with pytest.raises(ConfigError, match=r"crop\.mean_face"):
        load_mean_face(tmp_path / "mean.npy")


class Trap:
    """Its unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Trap(sprung)))
    np.save(tmp_path / "objects.npy", np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    for name in ("plain.npy", "objects.npy"):
        with pytest.raises(ConfigError, match=r"expected a \.npy file"):
            LRWAligner(mean_face=tmp_path / name)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"68 points", b"PK\x03\x04 and no archive", b"\x93NUMPY\x01\x00", None])
def test_files_that_are_no_array_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mean.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"crop\.mean_face: got .*mean\.npy .*, expected a \.npy file"):
        LRWAligner(mean_face=path)


def test_half_an_array_several_arrays_and_a_folder_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "several.npz", one=FACE)
    np.save(tmp_path / "cut.npy", FACE)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    for name in ("several.npz", "cut.npy", "."):
        with pytest.raises(ConfigError, match=r"crop\.mean_face"):
            LRWAligner(mean_face=tmp_path / name)


def test_the_digest_tells_mean_faces_apart_by_what_they_say(tmp_path: Path) -> None:
    for name, array in (("a", FACE), ("b", FACE), ("f", np.asfortranarray(FACE)), ("c", FACE + 1)):
        np.save(tmp_path / f"{name}.npy", array)
    first, second, third, other = (mean_face_digest(tmp_path / f"{name}.npy") for name in "abfc")
    assert first == second == third != other
    assert len(first) == 64


@pytest.mark.parametrize("crop_px", [0, 95, 112, 151, 224, 256])
def test_other_sizes_are_refused(crop_px: int) -> None:
    with pytest.raises(ConfigError, match=rf"got {crop_px}, expected one of 150, 96"):
        LRWAligner(crop_px=crop_px)


@pytest.mark.parametrize("num_landmarks", [0, 5])
def test_another_number_of_landmarks_is_refused(num_landmarks: int) -> None:
    track = track_of(np.full((2, num_landmarks, 2), 50.0))
    with pytest.raises(ConfigError, match=rf"got {num_landmarks} landmarks, expected 68; set landmark.kind to fan"):
        LRWAligner().align(frames_of([0, 1]), track)


def test_masks_are_cut_where_the_crops_are() -> None:
    """A mask that is the picture's green channel stays so."""
    track, frames = track_of(moving_face(6, 21)), frames_of(list(range(6)))
    clip = LRWAligner().align(frames, track, np.ascontiguousarray(frames.data[..., 1]))
    assert clip.masks is not None
    assert np.array_equal(clip.masks, clip.crops[..., 1])


def test_a_frame_too_small_for_the_face_is_black_outside() -> None:
    frames = replace(frames_of([0]), data=np.full((1, 60, 60, 3), 200, dtype=np.uint8))
    clip = LRWAligner().align(frames, track_of(FACE[None]))
    outside = clip.crops[0][70:, 70:]
    assert not outside.any()
