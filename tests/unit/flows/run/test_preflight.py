"""The checks before a run: they read the names in the dataset's folder once for a command and its flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.config.preprocess import load_config
from flows.run.preflight import preflight, sources_read
from manifests.datasets.ffpp import FaceForensicsPP
from manifests.datasets.ignored import Ignored
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Rejected
from tests.helpers.trees import touch


def test_a_run_takes_over_the_names_that_its_command_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = Counter[Path]()
    survey = FaceForensicsPP.survey

    def counted(dataset: FaceForensicsPP, root: Path) -> Iterator[VideoEntry | Rejected | Ignored]:
        walks[root] += 1
        return survey(dataset, root)

    monkeypatch.setattr(FaceForensicsPP, "survey", counted)
    root = touch(tmp_path / "ffpp", "original_sequences/youtube/c23/videos/001.mp4")
    config = load_config(None, ["detect.device=cpu"], {"dataset": {"root": root}, "out": tmp_path / "store"})
    prepared = preflight(config)
    assert walks == {root: 1}
    with sources_read(prepared.sources):
        assert preflight(config).sources is prepared.sources
    assert walks == {root: 1}
    assert preflight(config).sources == prepared.sources
    assert walks == {root: 2}


def test_a_class_without_videos_is_refused(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "real/a.mp4", "fake/clip.zip")
    config = load_config(None, ["detect.device=cpu"], {"dataset": {"root": root}, "out": tmp_path / "store"})
    with pytest.raises(
        DatasetError,
        match=r"got no fake video: fake/ has no video, but 1 file \(archive\): fake/clip.zip; unpack",
    ):
        preflight(config)
    (root / "fake" / "clip.zip").unlink()
    assert preflight(config).sources[0].survey.num_videos == 1  # an empty folder may be meant so
