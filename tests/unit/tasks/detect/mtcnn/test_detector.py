"""MTCNN: a full search against facenet-pytorch's own `detect`, and following against a full search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage import data
from torch.nn import functional as nnf

from tasks.decode import DECODERS
from tasks.detect.mtcnn.cascade import Cascade
from tasks.detect.mtcnn.detector import MTCNNDetector
from tasks.detect.mtcnn.networks import FastPNet, Layer, o_net, r_net
from tasks.detect.mtcnn.pictures import CpuSumTables, SumTables
from tasks.detect.mtcnn.pyramid import CELL_PX, around, levels_of, packed, whole
from tasks.media import FaceDetection, FrameBatch

Images = npt.NDArray[np.uint8]
CPU = torch.device("cpu")
CLIP = "original_sequences/youtube/c23/videos/519.mp4"


def batch_of(images: Images) -> FrameBatch:
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


def iou(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    shared = np.maximum(0, np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared))


@pytest.fixture(scope="module")
def portrait() -> Images:
    """NASA's public-domain portrait of Eileen Collins, (512,512,3): one face, 95 × 135 pixels."""
    return np.ascontiguousarray(data.astronaut())  # type: ignore[no-untyped-call]


def resized(image: Images, height: int, width: int) -> Images:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def assert_same_as_facenet(images: Images, min_face_px: int = 20, scale_factor: float = 0.709) -> int:
    """Compare each face of each frame with the stock class's; return how many."""
    from facenet_pytorch import MTCNN

    stock = MTCNN(keep_all=True, min_face_size=min_face_px, factor=scale_factor, device="cpu")
    ours = MTCNNDetector(min_face_px=min_face_px, scale_factor=scale_factor).detect(batch_of(images))
    num_compared = 0
    for image, faces in zip(images, ours, strict=True):
        boxes, scores, landmarks = stock.detect(image, landmarks=True)
        assert len(faces) == (0 if boxes is None else len(boxes))
        for number, face in enumerate(faces):
            np.testing.assert_allclose(face.box_xyxy, np.asarray(boxes[number], dtype=np.float32), atol=2e-3)
            np.testing.assert_allclose(face.landmarks, np.asarray(landmarks[number], dtype=np.float32), atol=2e-3)
            assert face.score == pytest.approx(float(scores[number]), abs=1e-5)
            num_compared += 1
    return num_compared


@pytest.mark.parametrize(
    ("min_face_px", "scale_factor"), [(20, 0.709), (33, 0.709), (40, 0.709), (60, 0.709), (80, 0.709), (60, 0.8)]
)
def test_full_search_is_facenet_pytorchs(portrait: Images, min_face_px: int, scale_factor: float) -> None:
    assert assert_same_as_facenet(portrait[None], min_face_px, scale_factor) == 1


@pytest.mark.parametrize(("height", "width"), [(512, 512), (301, 401), (640, 233), (97, 90), (200, 999)])
def test_full_search_is_facenet_pytorchs_at_every_size(portrait: Images, height: int, width: int) -> None:
    image = portrait[:400, 80:400]
    side = min(height, width)
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[:side, :side] = resized(image, side, side)
    assert assert_same_as_facenet(canvas[None]) >= 1


def test_full_search_is_facenet_pytorchs_for_two_faces(portrait: Images) -> None:
    both = np.zeros((512, 1024, 3), dtype=np.uint8)
    both[100:400, 40:340] = resized(portrait, 300, 300)
    both[:, 512:] = portrait
    assert assert_same_as_facenet(np.stack([both, both[:, ::-1]])) == 4


def test_full_search_is_facenet_pytorchs_where_a_face_leaves_the_frame(portrait: Images) -> None:
    assert assert_same_as_facenet(portrait[None, 90:, 200:]) >= 1


def test_a_batch_gives_what_single_frames_give(portrait: Images) -> None:
    """On a GPU all frames go through the networks at once."""
    images = np.stack([portrait, np.full_like(portrait, 127), portrait[:, ::-1], np.roll(portrait, 40, axis=1)])
    windows = [whole(level) for level in levels_of(512, 512, 20, 0.709)]
    batched = Cascade((0.6, 0.7, 0.7), CPU).search(SumTables(images, CPU), windows)
    single = MTCNNDetector().detect(batch_of(images))
    assert [len(faces) for faces in batched] == [1, 0, 1, 1]
    for one, other in zip(single, batched, strict=True):
        for face, twin in zip(one, other, strict=True):
            np.testing.assert_allclose(face.box_xyxy, twin.box_xyxy, atol=1e-3)


@pytest.mark.parametrize("make_tables", [lambda images: SumTables(images, CPU), CpuSumTables], ids=["torch", "loops"])
@pytest.mark.parametrize("size", [(100, 60), (61, 103), (24, 24), (7, 9)])
def test_levels_and_crops_are_torchs_area_resize(
    size: tuple[int, int], make_tables: Callable[[Images], SumTables]
) -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    tables, values = make_tables(images), torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for level in levels_of(*size, 12, 0.6):
        (canvas,) = packed((whole(level),), 1 << 20)
        expected = nnf.interpolate(values, size=(level.height, level.width), mode="area")
        assert torch.equal(tables.paint(canvas), (expected - 127.5) * 0.0078125)
    corners = torch.tensor([[1, 2, 6, 7], [0, 0, size[1], size[0]]])
    crops = tables.crop(torch.tensor([1, 0]), corners, 24)
    for crop, image, (left, top, right, bottom) in zip(crops, values.flip(0), corners.tolist(), strict=True):
        expected = nnf.interpolate(image[None, :, top:bottom, left:right], size=(24, 24), mode="area")[0]
        assert torch.equal(crop, (expected - 127.5) * 0.0078125)


def test_cells_of_windows_are_those_of_whole_levels(portrait: Images) -> None:
    """However levels are cut into strips, or windows laid side by side, P-Net proposes the same squares."""
    cascade = Cascade((0.6, 0.7, 0.7), CPU)
    tables, levels = SumTables(portrait[None, :, :435], CPU), levels_of(512, 435, 20, 0.709)
    assert any(level.height % 2 for level in levels[2:])
    assert any(level.width % 2 for level in levels[2:])
    for level in levels:
        with torch.inference_mode():
            alone, _ = cascade._candidates(tables, packed((whole(level),), 1 << 30)[0])
            strips = [cascade._candidates(tables, canvas)[0] for canvas in packed((whole(level),), 5000)]
            (shared,) = packed((*(whole(other) for other in levels[3:]),), 1 << 30)
            together, groups = cascade._candidates(tables, shared)
        torch.testing.assert_close(torch.cat(strips), alone, atol=1e-4, rtol=0)
        if level.number >= 3:
            torch.testing.assert_close(together[groups == level.number], alone, atol=1e-4, rtol=0)


def test_loops_paint_the_canvases_that_torch_paints(portrait: Images) -> None:
    levels = levels_of(512, 512, 20, 0.709)
    windows = [whole(level) for level in levels[4:]]
    near = around(levels[1], (200, 80, 300, 220))
    assert near is not None
    images = np.stack([portrait, portrait[::-1]])
    canvases = packed((near, *windows), 1 << 16)
    assert len(canvases) == 1
    for canvas in canvases:
        assert torch.equal(CpuSumTables(images).paint(canvas), SumTables(images, CPU).paint(canvas))


@pytest.mark.parametrize("make_tables", [lambda images: SumTables(images, CPU), CpuSumTables], ids=["torch", "loops"])
def test_sums_may_wrap_as_in_frames_of_8k(portrait: Images, make_tables: Callable[[Images], SumTables]) -> None:
    (canvas,) = packed((whole(levels_of(512, 512, 20, 0.709)[5]),), 1 << 16)
    squares = torch.tensor([0]), torch.tensor([[100, 50, 333, 283]])
    tables = make_tables(portrait[None])
    painted, cropped = tables.paint(canvas).clone(), tables.crop(*squares, 48).clone()
    tables._sums.add_(2**31 - 1000)
    assert tables._sums.min() < 0 < tables._sums.max()
    assert torch.equal(tables.paint(canvas), painted)
    assert torch.equal(tables.crop(*squares, 48), cropped)


@pytest.mark.parametrize("shape", [(2, 16, 9, 8), (1, 32, 22, 23), (3, 7, 3, 3), (2, 5, 2, 4)])
@pytest.mark.parametrize("size", [2, 3])
def test_activation_and_pool_in_one_pass_are_torchs(shape: tuple[int, int, int, int], size: int) -> None:
    """Slopes may be negative, as MTCNN's are: then the greatest value before activation is not the greatest after."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
    slopes = torch.rand(shape[1], generator=generator) * 2 - 1
    layer = Layer(torch.empty(0), torch.empty(0), slopes)
    expected = nnf.max_pool2d(nnf.prelu(values, slopes), size, 2, ceil_mode=True)
    if min(shape[2:]) >= size:
        assert torch.equal(layer.pooled(values, size), expected)


def test_networks_elsewhere_take_torchs_way() -> None:
    """Not on a CPU there are no loops; `meta` has shapes and no numbers."""
    meta = torch.device("meta")
    scores, offsets = FastPNet(meta)(torch.empty(2, 3, 61, 40, device=meta))
    assert (tuple(scores.shape), tuple(offsets.shape)) == ((2, 26, 15), (2, 4, 26, 15))
    assert r_net(meta)(torch.empty(7, 3, 24, 24, device=meta)).shape == (7, 5)
    assert o_net(meta)(torch.empty(7, 3, 48, 48, device=meta)).shape == (7, 15)


def test_a_window_holds_every_cell_in_its_area() -> None:
    level = levels_of(480, 640, 20, 0.709)[2]
    window = around(level, (100, 200, 180, 300))
    assert window is not None
    for (left, right), (start, stop) in (((100, 180), window.columns), ((200, 300), window.rows)):
        first, last = left * level.scale - 3, right * level.scale + 3
        cells = [cell for cell in range(0, 1000, 2) if first <= cell <= last - CELL_PX]
        assert start % 2 == 0
        assert start <= cells[0] < cells[-1] + CELL_PX <= stop
        assert stop - start < last - first + 4
    assert around(level, (700, 0, 800, 90)) is None


def moving(portrait: Images, place: Callable[[int], tuple[int, int, int] | None], num_frames: int = 8) -> Images:
    """Return 360p frames of noise with the portrait at (left, top, side) in each; None leaves it out."""
    rng = np.random.default_rng(1)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (360, 640, 3), dtype=np.uint8), (0, 0), 3)
    images = np.stack([np.asarray(ground, dtype=np.uint8)] * num_frames)
    for number, image in enumerate(images):
        at = place(number)
        if at is not None:
            left, top, side = at
            image[top : top + side, left : left + side] = resized(portrait, side, side)
    return images


def assert_following_finds_all(images: Images) -> list[list[FaceDetection]]:
    """Compare with a full search: the same number of faces, each with its box."""
    followed = MTCNNDetector(follow=True).detect(batch_of(images))
    for faces, expected in zip(followed, MTCNNDetector().detect(batch_of(images)), strict=True):
        assert len(faces) == len(expected)
        for face, other in zip(faces, expected, strict=True):
            assert iou(face.box_xyxy, other.box_xyxy) >= 0.98
    return followed


PLACES: dict[str, Callable[[int], tuple[int, int, int] | None]] = {
    "still": lambda _: (200, 20, 300),
    "pans": lambda number: (30 * number, 20, 300),
    "comes nearer": lambda number: (100, 0, 200 + 20 * number),
    "goes away": lambda number: (100, 0, 340 - 30 * number),
    "jumps": lambda number: (0, 0, 300) if number % 2 else (340, 60, 300),
    "is twice as far after a cut": lambda number: (20, 20, 330) if number < 4 else (400, 150, 150),
    "vanishes and returns": lambda number: (200, 20, 300) if number not in (3, 4) else None,
    "is not there": lambda _: None,
}


@pytest.mark.parametrize("name", PLACES)
def test_following_a_face_that(portrait: Images, name: str) -> None:
    followed = assert_following_finds_all(moving(portrait, PLACES[name]))
    assert [len(faces) for faces in followed] == [int(PLACES[name](number) is not None) for number in range(8)]


def test_following_sees_who_enters(portrait: Images) -> None:
    images = moving(portrait, lambda _: (20, 40, 300))
    for image in images[3:]:
        image[100:300, 420:620] = resized(portrait[:, ::-1], 200, 200)
    followed = assert_following_finds_all(images)
    assert [len(faces) for faces in followed] == [1] * 3 + [2] * 5


def test_following_keeps_a_small_face_beside_a_large_one(portrait: Images) -> None:
    images = moving(portrait, lambda _: (0, 0, 360))
    for number, image in enumerate(images):
        image[200:300, 420 + 2 * number : 520 + 2 * number] = resized(portrait[:, ::-1], 100, 100)
    followed = assert_following_finds_all(images)
    assert [len(faces) for faces in followed] == [2] * 8


def test_following_searches_few_cells(portrait: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """One full search, then a fraction of its pixels in each frame."""
    pixels: list[int] = []
    paint = CpuSumTables.paint

    def counted(tables: SumTables, canvas: object) -> torch.Tensor:
        picture = paint(tables, canvas)  # type: ignore[arg-type]
        pixels.append(picture.shape[2] * picture.shape[3])
        return picture

    monkeypatch.setattr(CpuSumTables, "paint", counted)
    images = moving(portrait, PLACES["still"])
    MTCNNDetector().detect(batch_of(images[:1]))
    num_full = sum(pixels)
    pixels.clear()
    MTCNNDetector(follow=True).detect(batch_of(images))
    assert sum(pixels) - num_full < 0.35 * 7 * num_full


@pytest.mark.samples
def test_full_search_is_facenet_pytorchs_on_real_frames(samples_dir: Path) -> None:
    with DECODERS["decord"]().open(samples_dir / "ffpp_c23" / CLIP) as reader:
        frames = reader.read(np.array([0, 120, 300], dtype=np.int64))
    assert assert_same_as_facenet(frames.data) >= 3


@pytest.mark.samples
def test_following_a_real_clip(samples_dir: Path) -> None:
    with DECODERS["decord"]().open(samples_dir / "ffpp_c23" / CLIP) as reader:
        frames = reader.read(np.linspace(0, 750, 16).astype(np.int64))
    assert_following_finds_all(frames.data)
