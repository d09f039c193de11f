"""Networks behind a socket: a service with scripted models in a thread, asked as workers ask it."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.errors import StageMissing, VideoRejected
from manifests.rejected import Reason, Stage
from tasks.detect.detector import FaceDetector
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.landmarks.landmarker import Landmarker
from tasks.media import FaceDetection, FrameBatch
from tasks.settings import StageSettings
from tasks.workers import gpu_service as network_service
from tasks.workers.gpu_client import NetworkClient, RemoteDetector, RemoteLandmarker, remote_models
from tasks.workers.gpu_service import listen
from tests.helpers.scripted import face

POISON = 99  # a frame of this grey makes the scripted detector fail


class GreyDetector(FaceDetector):
    """Finds one face per frame, as far from the left as the frame is bright; remembers how many frames came at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        self.batches.append(len(frames))
        self.may_go_on.wait(10)
        greys = [int(image[0, 0, 0]) for image in frames.data]
        if POISON in greys:
            raise MemoryError("poisoned")
        return [[face(grey, 10, 20)] for grey in greys]


class Shift(Landmarker):
    """A landmarker that says where each face is, to the pixel."""

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        assert len(frames) == len(faces)
        return [
            [replace(one, landmarks=one.landmarks + np.float32(image[0, 0, 0])) for one in found]
            for image, found in zip(frames.data, faces, strict=True)
        ]


def frames_of(*greys: int, height: int = 24) -> FrameBatch:
    data = np.stack([np.full((height, 32, 3), grey, dtype=np.uint8) for grey in greys])
    return FrameBatch(data=data, frame_indices=np.arange(len(greys), dtype=np.int64), pts_seconds=np.zeros(len(greys)))


def lefts(found: list[list[FaceDetection]]) -> list[list[float]]:
    return [[float(one.box_xyxy[0]) for one in faces] for faces in found]


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., str]:
    """Start a service with models, or a fault; give its address."""

    def start(models: dict[str, Any], fault: Exception | None = None) -> str:
        address = str(tmp_path / "socket")
        threading.Thread(target=listen, args=(address, models, fault), daemon=True).start()
        return address

    return start


def test_the_answer_is_what_the_network_says(serve: Callable[..., str]) -> None:
    client = NetworkClient(serve({"detector": GreyDetector(), "landmarker": Shift()}))
    frames = frames_of(3, 50, 200)
    found = RemoteDetector(client=client, model="detector").detect(frames)
    assert lefts(found) == [[3], [50], [200]]
    located = RemoteLandmarker(client=client).locate(frames, [found[0], [], [*found[2], *found[1]]])
    assert [len(faces) for faces in located] == [1, 0, 2]
    assert np.array_equal(located[2][1].landmarks, found[1][0].landmarks + 200)


def test_more_and_larger_frames_than_before_and_none(serve: Callable[..., str]) -> None:
    client = NetworkClient(serve({"detector": GreyDetector()}))
    for greys, height in [((1,), 8), ((2, 3, 4), 480), ((5, 6), 24)]:
        assert lefts(client.ask("detector", frames_of(*greys, height=height))) == [[grey] for grey in greys]
    assert client.ask("detector", frames_of(7).rows([])) == []


def test_requests_that_wait_go_through_together(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_service, "MAX_PIXELS_TOGETHER", 5 * 24 * 32)
    detector = GreyDetector()
    detector.may_go_on.clear()
    address = serve({"detector": detector})
    with ThreadPoolExecutor(6) as workers:
        first = workers.submit(NetworkClient(address).ask, "detector", frames_of(1))
        wait_until(lambda: detector.batches == [1])
        others = [
            workers.submit(NetworkClient(address).ask, "detector", frames_of(grey, grey + 1)) for grey in (10, 20, 30)
        ]
        larger = workers.submit(NetworkClient(address).ask, "detector", frames_of(40, height=48))
        time.sleep(0.3)  # until all four wait; were they slower, they would come in more batches, with the same answers
        detector.may_go_on.set()
        assert lefts(first.result()) == [[1]]
        assert [lefts(one.result()) for one in others] == [[[10], [11]], [[20], [21]], [[30], [31]]]
        assert lefts(larger.result()) == [[40]]
    assert sum(detector.batches) == 8
    assert max(detector.batches) <= 5


def test_a_network_that_fails_costs_one_video_only(serve: Callable[..., str]) -> None:
    detector = GreyDetector()
    detector.may_go_on.clear()
    address = serve({"detector": detector})
    with ThreadPoolExecutor(3) as workers:
        blocking = workers.submit(NetworkClient(address).ask, "detector", frames_of(1))
        wait_until(lambda: detector.batches == [1])
        bad = workers.submit(NetworkClient(address).ask, "detector", frames_of(2, POISON))
        good = workers.submit(NetworkClient(address).ask, "detector", frames_of(3))
        time.sleep(0.3)
        detector.may_go_on.set()
        assert lefts(blocking.result()) == [[1]]
        assert lefts(good.result()) == [[3]]
        with pytest.raises(VideoRejected, match="MemoryError: poisoned") as rejection:
            bad.result()
    assert (rejection.value.stage, rejection.value.reason) == (Stage.DETECT, Reason.CRASHED)


def test_what_is_missing_ends_the_run(serve: Callable[..., str]) -> None:
    address = serve({}, StageMissing("weights 2dfan4: got none"))
    with pytest.raises(StageMissing, match="2dfan4"):
        NetworkClient(address).ask("detector", frames_of(1))


def test_nobody_answers(tmp_path: Path) -> None:
    """No other video would get an answer either."""
    with pytest.raises(StageMissing, match=r"networks of nobody: got no answer within 0\.1 s"):
        NetworkClient(str(tmp_path / "nobody"), start_seconds=0.1).ask("detector", frames_of(1))


def test_a_service_that_dies_of_a_video_again_and_again_costs_that_video(tmp_path: Path) -> None:
    """Each connection is taken and dropped at the first question."""
    with Listener(str(tmp_path / "socket"), "AF_UNIX") as listener:

        def drop() -> None:
            for _ in range(3):
                with listener.accept() as connection:
                    connection.send("here I am")
                    connection.recv()

        threading.Thread(target=drop, daemon=True).start()
        with pytest.raises(VideoRejected, match="lost their process 3 times") as rejection:
            NetworkClient(str(tmp_path / "socket")).ask("detector", frames_of(1))
    assert rejection.value.reason is Reason.CRASHED


def test_a_line_that_breaks_is_taken_up_again(serve: Callable[..., str]) -> None:
    client = NetworkClient(serve({"detector": GreyDetector()}))
    client.ask("detector", frames_of(1))
    assert client._connection is not None
    client._connection.close()
    client._connection = None
    client._memory = None
    assert lefts(client.ask("detector", frames_of(2))) == [[2]]


def test_only_networks_go_elsewhere(tmp_path: Path) -> None:
    """The detector's own landmarks need no network; of the ladder only what is asked for is there."""
    client = NetworkClient(str(tmp_path / "nobody"))
    plain = remote_models(StageSettings(), client)
    assert isinstance(plain.detector, RemoteDetector)
    assert isinstance(plain.landmarker, DetectorLandmarks)
    assert plain.lenient_detector is None
    ladder = StageSettings.model_validate({"frames": {"at_least": 5}, "landmark": {"kind": "fan"}})
    models = remote_models(ladder, client)
    assert isinstance(models.landmarker, RemoteLandmarker)
    assert isinstance(models.lenient_detector, RemoteDetector)
    assert models.second_detector is None


def test_a_rejection_passes_between_processes_whole() -> None:
    rejection = pickle.loads(pickle.dumps(VideoRejected(Stage.DETECT, Reason.CRASHED, "why")))
    assert (rejection.stage, rejection.reason, rejection.detail) == (Stage.DETECT, Reason.CRASHED, "why")


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing happened within {seconds} s"
        time.sleep(0.01)
