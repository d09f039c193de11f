"""Prediction: the decoder of the training crops is used where it can decode, and another one where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flows.run.prediction import EXPECTED, job_of, processed
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.media import Stage
from tasks.settings import StageSettings
from tasks.video.stages import Models
from tests.helpers.scripted import PlayedDetector, face


@pytest.mark.parametrize(
    ("name", "wanted", "used"), [("a.mp4", "decord", "decord"), ("a.avi", "decord", "pyav"), ("a.avi", "auto", "pyav")]
)
def test_a_video_that_its_decoder_cannot_decode_is_decoded_by_the_default_one(
    tmp_path: Path, name: str, wanted: str, used: str
) -> None:
    write(tmp_path / name)
    settings = StageSettings.model_validate({"decode": {"backend": wanted}, "frames": {"count": 4}})
    models = Models(detector=PlayedDetector(lambda _: [face(40, 30, 60)]), landmarker=DetectorLandmarks())
    result, stages = processed(job_of(tmp_path / name), settings, models)
    assert (result.row.status, stages.settings.decode.backend) == ("pending", used), result.row.detail
    assert len(result.records) == 4


def test_a_failed_decode_is_not_said_to_lack_a_face() -> None:
    assert EXPECTED[Stage.DECODE] == "a video that can be decoded"
    assert Stage.DETECT not in EXPECTED


def write(path: Path) -> None:
    """Write H.264 with B-frames, which decord cannot put in order in an AVI."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"bf": "3", "b_strategy": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(20):
            picture = np.full((120, 160, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
