"""A process with real networks, as there is one for each GPU: here on the CPU, where the same answers are known."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from tasks.media import FrameBatch
from tasks.settings import StageSettings
from tasks.video.stages import Models
from tasks.workers.gpu_client import NetworkClient, remote_models
from tasks.workers.gpu_service import NetworkService

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_other_processes_networks_see_what_ours_see_and_outlive_their_death(tmp_path: Path) -> None:
    settings = StageSettings()
    portrait = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    frames = FrameBatch(
        data=np.stack([portrait, np.zeros_like(portrait)]),
        frame_indices=np.arange(2, dtype=np.int64),
        pts_seconds=np.zeros(2),
    )
    expected = Models.load(settings, "cpu").detector.detect(frames)
    service = NetworkService(str(tmp_path / "socket"), settings, "cpu")
    try:
        detector = remote_models(settings, NetworkClient(service.address)).detector
        for is_second in (False, True):
            found = detector.detect(frames)
            assert [len(faces) for faces in found] == [1, 0]
            np.testing.assert_allclose(found[0][0].box_xyxy, expected[0][0].box_xyxy, atol=1e-3)
            np.testing.assert_allclose(found[0][0].landmarks, expected[0][0].landmarks, atol=1e-3)
            if not is_second:
                os.kill(process_of(service), signal.SIGKILL)
    finally:
        last = process_of(service)
        service.stop()
    assert not is_alive(last)


def process_of(service: NetworkService) -> int:
    process = service._process
    assert process.pid is not None
    return process.pid


def is_alive(process_id: int) -> bool:
    for _ in range(100):
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True
