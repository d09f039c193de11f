"""GPU service: one process that runs the networks of a GPU, for any number of workers that decode, cut and encode.

    worker ── frames in shared memory, a short request ──► thread per worker ──► bounded queue ──► networks
    worker ◄────────────── faces, or an error ─────────────────────────────────────────────────────┘

A GPU processes frames faster than one process can decode them, and each further process on the GPU would load the
networks again. Requests of several workers for the same network, with frames of one size, are processed together. Each
worker waits for its answer, so that at most one batch per worker is in memory.

If the service dies, another is started, and `tasks/workers/gpu_client.py` repeats its request.
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

# Pixels of frames that are processed together: two batches of 16 at 1280×720. This is an estimate, not measured on a
# GPU: the widest layer of MTCNN's finest scale then takes 10 channels × 32 × 768 × 432 × 4 bytes, 400 MiB.
MAX_PIXELS_TOGETHER = 32 * 1280 * 720
# PyTorch's messages for a failed kernel, after which every call in this process fails. Out of memory is another case.
STICKY = "CUDA error"

SECONDS_BETWEEN_STARTS = 1.0  # of a service that dies repeatedly
MAX_WAITING = 64  # requests; each waiting worker holds one


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A worker's request; its frames are at the beginning of the memory that it shares."""

    model: str
    """A field of `tasks.video.stages.Models`."""

    shape: tuple[int, int, int, int]
    """(T,H,W,3) of the uint8 RGB frames."""

    faces: Faces | None
    """Faces of each of the T frames, for a landmarker; None for a detector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesMemory:
    """Message that the handle of new shared memory follows."""

    num_bytes: int
    """Its size."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """A request on its way to the networks."""

    request: Request
    """The worker's request."""

    data: npt.NDArray[np.uint8]
    """(T,H,W,3) uint8 RGB frames, in memory that the worker shares."""

    answered: threading.Event = field(default_factory=threading.Event)
    """Set when the answer is ready."""

    answer: Faces | FaceshardsError | None = None
    """Faces of each frame, or the exception that the worker will raise."""

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """Key of requests that can be answered together: the network, and the size of frames."""
        return self.request.model, self.request.shape[1:]

    @property
    def num_pixels(self) -> int:
        """Number of pixels of all frames."""
        num_frames, height, width, _ = self.request.shape
        return num_frames * height * width


class NetworkService:
    """A device's networks in a process of their own, which is started again whenever it dies.

    Args:
        address: path of the socket that workers connect to, in a folder of the run.
        settings: settings of the stages, which name the networks.
        device: `cuda:N`; or `cpu` for tests, where following would mix the videos of joined requests.
    """

    def __init__(self, address: str, settings: StageSettings, device: str) -> None:
        self.address = address
        self._settings = settings
        self._device = device
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._process = self._new_process()
        # The kernel ends the process with the thread that started it (`end_with_parent`), so this thread stays alive.
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
    """Answer workers until this process is ended; if the networks cannot be loaded, every answer is the reason.

    Args:
        address: path of the socket to listen at.
        settings: settings of the stages, which name the networks.
        device: `cuda:N`; or `cpu` for tests, where following would mix the videos of joined requests.
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
        StageMissing: a package or a weight file is missing.
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
        models: models by their field in `tasks.video.stages.Models`.
        fault: the answer to every request if there are no models.
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
    """Remove from a list the oldest request and as many others of its kind as fit; return them, oldest first."""
    together = [backlog.pop(0)]
    num_pixels = together[0].num_pixels
    for one in list(backlog):
        if one.kind == together[0].kind and num_pixels + one.num_pixels <= MAX_PIXELS_TOGETHER:
            num_pixels += one.num_pixels
            backlog.remove(one)
            together.append(one)
    return together


def answer(together: Sequence[_Waiting], models: Mapping[str, FaceDetector | Landmarker]) -> None:
    """Answer joined requests; if they fail together, answer each one alone, so that a fault affects only one."""
    try:
        found = _run(together, models)
    except Exception as error:
        if STICKY in str(error):
            logger.exception("the GPU no longer answers, and another process is started")
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
    """Return the error that ends the run, since every other video would fail as well."""
    if isinstance(error, FaceshardsError):
        return error
    return StageMissing(f"networks: got {type(error).__name__}: {error}, expected them to load on {device}")


def _refusal(error: Exception) -> FaceshardsError:
    """Return the exception for the worker: a fault of the installation unchanged, else a rejection of the one video."""
    if isinstance(error, FaceshardsError) and not isinstance(error, VideoRejected):
        return error
    logger.error("a network failed on its frames", exc_info=error)
    if isinstance(error, VideoRejected):
        return error
    return VideoRejected(Stage.DETECT, Reason.CRASHED, f"networks: got {type(error).__name__}: {error}")


def _run(together: Sequence[_Waiting], models: Mapping[str, FaceDetector | Landmarker]) -> Faces:
    """Run the network on the frames of several requests; return the faces of all frames, in order."""
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
    """Pass on one worker's requests, and their answers back, until the worker ends in any way."""
    memory: mmap.mmap | None = None
    with connection:
        try:
            connection.send(os.getpid())  # a greeting, so that the worker knows that the service listens
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
    """Map the shared memory whose handle comes next; it exists until neither side uses it."""
    handle = reduction.recv_handle(connection)
    try:
        return mmap.mmap(handle, num_bytes)
    finally:
        os.close(handle)
