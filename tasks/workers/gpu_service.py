"""GPU service: one process that holds the networks of a GPU, for any number of workers that decode, cut and encode.

    worker ── frames in shared memory, a short request ──► thread per worker ──► bounded queue ──► networks
    worker ◄────────────── faces, or why not ──────────────────────────────────────────────────────┘

A GPU takes frames faster than one process can decode them, and each process of its own on the GPU would hold the
networks once more. Requests of several workers that wait for the same network, with frames of one size, go through it
together. Each worker waits for its answer, so that at most one batch per worker is in memory.

Where it dies, another is started, and `tasks/workers/gpu_client.py` asks again.
"""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import reduction
from multiprocessing.connection import Connection, Listener
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.errors import FaceshardsError, StageMissing, VideoRejected
from tasks.detect.detector import FaceDetector
from tasks.landmarks import LANDMARKERS
from tasks.landmarks.landmarker import Landmarker
from tasks.media import Faces, FrameBatch, Reason, Stage
from tasks.settings import StageSettings
from tasks.video.stages import detector_classes, load_detector, load_landmarker
from tasks.workers.interrupts import end_with_parent, interrupts_blocked

logger = logging.getLogger(__name__)

# Frames that go through a network together: two batches of 16 at 1280×720. An estimate, which no GPU has confirmed:
# the widest layer of MTCNN's finest scale then takes 10 channels × 32 × 768 × 432 × 4 bytes, 400 MiB.
MAX_PIXELS_TOGETHER = 32 * 1280 * 720
# How PyTorch says that a kernel failed, after which every call in this process does. To be out of memory is not that.
STICKY = "CUDA error"

SECONDS_BETWEEN_STARTS = 1.0  # of a service that dies
MAX_WAITING = 64  # requests; each waiting worker holds one


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a worker asks; its frames lie at the beginning of the memory that it shares."""

    model: str
    """A field of `tasks.video.stages.Models`."""

    shape: tuple[int, int, int, int]
    """(T,H,W,3) of the uint8 RGB frames."""

    faces: Faces | None
    """Of each of the T frames, for a landmarker; None for a detector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesMemory:
    """Says that the handle of new shared memory follows."""

    num_bytes: int
    """Its size."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """A request on its way to the networks."""

    request: Request
    """What the worker asks."""

    data: npt.NDArray[np.uint8]
    """(T,H,W,3) uint8 RGB frames, in memory that the worker shares."""

    answered: threading.Event = field(default_factory=threading.Event)
    """Set as soon as the answer is there."""

    answer: Faces | FaceshardsError | None = None
    """Faces of each frame, or what the worker is to raise."""

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """What requests must share to be answered together: the network, and the size of frames."""
        return self.request.model, self.request.shape[1:]

    @property
    def num_pixels(self) -> int:
        """Of all frames."""
        num_frames, height, width, _ = self.request.shape
        return num_frames * height * width


class NetworkService:
    """A device's networks in a process of their own, which is started again whenever it dies.

    Args:
        address: path of the socket at which workers ask it; its folder is the run's own.
        settings: which networks.
        device: `cuda:N`; `cpu` for tests, where following would mix up the videos that wait together.
    """

    def __init__(self, address: str, settings: StageSettings, device: str) -> None:
        self.address = address
        self._settings = settings
        self._device = device
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._process = self._new_process()
        # The kernel ends the process with the thread that started it (`end_with_parent`): one that lives as long.
        self._keeper = threading.Thread(target=self._keep_running, daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        """End the process at once."""
        self._stopped.set()
        with self._lock:
            if self._process.pid is not None:
                self._process.kill()
        self._keeper.join()

    def _new_process(self) -> BaseProcess:
        # Spawned, not forked: CUDA does not survive a fork.
        context = multiprocessing.get_context("spawn")
        return context.Process(target=serve, args=(self.address, self._settings, self._device), daemon=True)

    def _keep_running(self) -> None:
        while True:
            with self._lock:
                if self._stopped.is_set():
                    return
                with interrupts_blocked():  # Ctrl-C is for the parent to act on
                    self._process.start()
            self._process.join()
            if not self._stopped.is_set():
                code = self._process.exitcode
                logger.warning(
                    "process with the networks of %s died (exit code %s), starting another", self._device, code
                )
                self._process = self._new_process()
                self._stopped.wait(SECONDS_BETWEEN_STARTS)


def serve(address: str, settings: StageSettings, device: str) -> None:
    """Answer workers until this process is ended; with the reason, where the networks cannot be loaded.

    Args:
        address: path of the socket to listen at.
        settings: which networks.
        device: `cuda:N`; `cpu` for tests, where following would mix up the videos that wait together.
    """
    end_with_parent()
    try:
        models = _gpu_models(settings, device)
        fault = None
    except Exception as error:
        logger.exception("networks of %s cannot be loaded", device)
        models, fault = {}, _unusable(device, error)
    listen(address, models, fault)


def _gpu_models(settings: StageSettings, device: str) -> dict[str, FaceDetector | Landmarker]:
    """Load the models that can run on a GPU, by their field in `Models`.

    Raises:
        StageMissing: a package or a weight file is not there.
    """
    detectors = detector_classes(settings).items()
    models: dict[str, FaceDetector | Landmarker] = {
        name: load_detector(settings, name, device) for name, kind in detectors if kind.uses_gpu
    }
    if LANDMARKERS[settings.landmark.kind].uses_gpu:
        models["landmarker"] = load_landmarker(settings, device)
    return models


def listen(address: str, models: Mapping[str, FaceDetector | Landmarker], fault: FaceshardsError | None = None) -> None:
    """Answer every worker that connects, and never return.

    Args:
        address: path of the socket; a file that a dead service left there is removed.
        models: by their field in `tasks.video.stages.Models`.
        fault: the answer to everything, where there are no models.
    """
    waiting: queue.Queue[_Waiting] = queue.Queue(MAX_WAITING)
    Path(address).unlink(missing_ok=True)
    listener = Listener(address, "AF_UNIX", backlog=MAX_WAITING)
    threading.Thread(target=_accept, args=(listener, waiting), daemon=True).start()
    backlog: list[_Waiting] = []
    while True:
        if not backlog:
            backlog.append(waiting.get())
        while not waiting.empty():
            backlog.append(waiting.get())
        together = take_together(backlog)
        if fault is None:
            answer(together, models)
        for one in together:
            if fault is not None:
                one.answer = fault
            one.answered.set()


def take_together(backlog: list[_Waiting]) -> list[_Waiting]:
    """Remove the oldest request from a list, and those that go with it, as many as fit; return them, oldest first."""
    together = [backlog.pop(0)]
    num_pixels = together[0].num_pixels
    for one in list(backlog):
        if one.kind == together[0].kind and num_pixels + one.num_pixels <= MAX_PIXELS_TOGETHER:
            num_pixels += one.num_pixels
            backlog.remove(one)
            together.append(one)
    return together


def answer(together: Sequence[_Waiting], models: Mapping[str, FaceDetector | Landmarker]) -> None:
    """Answer requests that go together; where they fail together, each by itself: a fault of one is not the others'."""
    try:
        found = _run(together, models)
    except Exception as error:
        if STICKY in str(error):
            logger.exception("the GPU answers no more, and another process is needed")
            os._exit(1)
        if len(together) > 1:
            for one in together:
                answer([one], models)
            return
        together[0].answer = _refusal(error)
        return
    for one in together:
        num_frames = one.request.shape[0]
        one.answer, found = found[:num_frames], found[num_frames:]


def _unusable(device: str, error: Exception) -> FaceshardsError:
    """Return what ends the run: no other video would survive either."""
    if isinstance(error, FaceshardsError):
        return error
    return StageMissing(f"networks: got {type(error).__name__}: {error}, expected them to load on {device}")


def _refusal(error: Exception) -> FaceshardsError:
    """Return what the worker is to raise: a fault of the installation as it is, else a rejection of the one video."""
    if isinstance(error, FaceshardsError) and not isinstance(error, VideoRejected):
        return error
    logger.error("a network failed on its frames", exc_info=error)
    if isinstance(error, VideoRejected):
        return error
    return VideoRejected(Stage.DETECT, Reason.CRASHED, f"networks: got {type(error).__name__}: {error}")


def _run(together: Sequence[_Waiting], models: Mapping[str, FaceDetector | Landmarker]) -> Faces:
    """Send the frames of several requests through their network; return the faces of all frames, in order."""
    model = models[together[0].request.model]
    data = together[0].data if len(together) == 1 else np.concatenate([one.data for one in together])
    frames = FrameBatch(
        data=data,
        frame_indices=np.arange(len(data), dtype=np.int64),
        pts_seconds=np.zeros(len(data), dtype=np.float64),
    )
    if isinstance(model, FaceDetector):
        return model.detect(frames)
    return model.locate(frames, [row for one in together for row in one.request.faces or ()])


def _accept(listener: Listener, waiting: queue.Queue[_Waiting]) -> None:
    """Start a thread for each worker that connects."""
    while True:
        connection = listener.accept()
        threading.Thread(target=_listen, args=(connection, waiting), daemon=True).start()


def _listen(connection: Connection, waiting: queue.Queue[_Waiting]) -> None:
    """Pass one worker's requests on, and their answers back, until it goes away in whatever manner."""
    memory: mmap.mmap | None = None
    with connection:
        try:
            connection.send(os.getpid())  # a greeting, so that the worker knows somebody listens
            while True:
                message = connection.recv()
                if isinstance(message, SharesMemory):
                    memory = _received(connection, message.num_bytes)
                elif isinstance(message, Request) and memory is not None:
                    data = np.frombuffer(memory, dtype=np.uint8, count=int(np.prod(message.shape)))
                    one = _Waiting(request=message, data=data.reshape(message.shape))
                    waiting.put(one)
                    one.answered.wait()
                    connection.send(one.answer)
        except (EOFError, ConnectionError):
            return


def _received(connection: Connection, num_bytes: int) -> mmap.mmap:
    """Map the memory whose handle comes next; it lives as long as one of both sides uses it."""
    handle = reduction.recv_handle(connection)
    try:
        return mmap.mmap(handle, num_bytes)
    finally:
        os.close(handle)
