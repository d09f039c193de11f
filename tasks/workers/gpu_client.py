"""Client of the GPU service (`tasks/workers/gpu_service.py`): detectors and landmarkers that run in its process.

Their results are those of networks in this process. Frames are sent in shared memory, faces through a socket.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Sequence
from multiprocessing import reduction
from multiprocessing.connection import Client, Connection
from pathlib import Path

import numpy as np

from manifests.errors import FaceshardsError, StageMissing, VideoRejected
from tasks.detect.detector import FaceDetector
from tasks.landmarks import LANDMARKERS
from tasks.landmarks.landmarker import Landmarker
from tasks.media import FaceDetection, Faces, FrameBatch, Reason, Stage
from tasks.settings import StageSettings
from tasks.video.stages import Models, detector_classes, load_detector, load_landmarker
from tasks.workers.gpu_service import Request, SharesMemory

# Seconds that a worker waits for a service that is starting: PyTorch with CUDA needs ten or more, and minutes on a
# network file system.
START_SECONDS = 300.0
SECONDS_BETWEEN_TRIES = 0.05
# Tries of one request: a service that died before the request costs one; a video that kills the service costs two more.
MAX_TRIES = 3
CONNECTION_LOST = (EOFError, OSError)  # exceptions of a connection whose other end is closed


class NetworkClient:
    """A worker's connection to the service.

    Args:
        address: path of the socket of the service, which may still be starting.
        start_seconds: seconds to wait for it.
    """

    def __init__(self, address: str, start_seconds: float = START_SECONDS) -> None:
        self._address = address
        self._start_seconds = start_seconds
        self._connection: Connection | None = None
        self._memory: mmap.mmap | None = None

    def ask(self, model: str, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]] | None = None) -> Faces:
        """Return the faces of each frame.

        Args:
            model: a field of `tasks.video.stages.Models`.
            frames: (T,H,W,3) uint8 RGB.
            faces: faces of each of the T frames, for a landmarker.

        Raises:
            VideoRejected: the network fails on these frames, or they kill the service.
            FaceshardsError: the installation is faulty, or the service does not start.
        """
        if len(frames) == 0:
            return []
        listed = None if faces is None else [list(found) for found in faces]
        request = Request(model=model, shape=frames.data.shape, faces=listed)
        for _ in range(MAX_TRIES):
            try:
                return self._ask_once(request, frames)
            except CONNECTION_LOST as error:
                self.close()  # another service is being started
                lost = error
        detail = f"networks: lost their process {MAX_TRIES} times ({lost!r}), expected an answer"
        raise VideoRejected(Stage.DETECT, Reason.CRASHED, detail) from lost

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        if self._connection is not None:
            self._connection.close()
        if self._memory is not None:
            self._memory.close()
        self._connection = self._memory = None

    def _ask_once(self, request: Request, frames: FrameBatch) -> Faces:
        connection = self._connected()
        memory = self._shared(connection, frames.data.nbytes)
        view = np.frombuffer(memory, dtype=np.uint8, count=frames.data.nbytes)
        view.reshape(request.shape)[:] = frames.data
        del view  # shared memory with views cannot be closed
        connection.send(request)
        answer: Faces | FaceshardsError = connection.recv()
        if isinstance(answer, FaceshardsError):
            raise answer
        return answer

    def _connected(self) -> Connection:
        """Return the connection, after waiting for a service that is starting.

        Raises:
            StageMissing: the service has not started in time.
        """
        deadline = time.monotonic() + self._start_seconds
        while self._connection is None:
            try:
                self._connection = Client(self._address, "AF_UNIX")
                self._connection.recv()  # its greeting: a process that is being killed still takes connections
            except CONNECTION_LOST as error:
                self.close()
                if time.monotonic() > deadline:
                    raise StageMissing(
                        f"networks of {Path(self._address).name}: got no answer within {self._start_seconds:g} s, "
                        "expected their process to start; the log has the reason"
                    ) from error
                time.sleep(SECONDS_BETWEEN_TRIES)
        return self._connection

    def _shared(self, connection: Connection, num_bytes: int) -> mmap.mmap:
        """Return memory of at least this size, shared with the service; the kernel frees it with the last process."""
        if self._memory is None or len(self._memory) < num_bytes:
            handle = os.memfd_create("faceshards-frames")
            try:
                os.ftruncate(handle, num_bytes)
                memory = mmap.mmap(handle, num_bytes)
                connection.send(SharesMemory(num_bytes=num_bytes))
                reduction.send_handle(connection, handle, 0)  # the pid is used only on Windows
            finally:
                os.close(handle)
            if self._memory is not None:
                self._memory.close()
            self._memory = memory
        return self._memory


class RemoteDetector(FaceDetector):
    """A detector in the service.

    Args:
        client: the connection to the service.
        model: the field of `tasks.video.stages.Models` that it replaces.
        sure_score: that of the detector in the service.
    """

    def __init__(self, *, client: NetworkClient, model: str, sure_score: float = 0.0) -> None:
        self._client = client
        self._model = model
        self.sure_score = sure_score

    def detect(self, frames: FrameBatch) -> Faces:
        """Return the faces of each of the T frames, the largest first.

        Raises:
            VideoRejected: the network fails on these frames.
        """
        return self._client.ask(self._model, frames)


class RemoteLandmarker(Landmarker):
    """The landmarker in the service.

    Args:
        client: the connection to the service.
    """

    def __init__(self, *, client: NetworkClient) -> None:
        self._client = client

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> Faces:
        """Return the same faces with their landmarks replaced.

        Raises:
            VideoRejected: the network fails on these frames.
        """
        return self._client.ask("landmarker", frames, faces)


def remote_models(settings: StageSettings, client: NetworkClient) -> Models:
    """Return the models of the settings: those that can use a GPU through the client, the others here on the CPU.

    Raises:
        StageMissing: a package or a file of one of the others is missing.
    """
    landmarks_on_gpu = LANDMARKERS[settings.landmark.kind].uses_gpu
    detectors = {
        name: RemoteDetector(client=client, model=name, sure_score=kind.sure_score)
        if kind.uses_gpu
        else load_detector(settings, name, "cpu")
        for name, kind in detector_classes(settings).items()
    }
    return Models(
        landmarker=RemoteLandmarker(client=client) if landmarks_on_gpu else load_landmarker(settings, "cpu"),
        **detectors,
    )
