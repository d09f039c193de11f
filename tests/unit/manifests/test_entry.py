"""A video's entry: what follows from its fields."""

from __future__ import annotations

import pytest

from manifests.entry import REAL, REAL_CLASS, VideoEntry


@pytest.mark.parametrize(("manipulation", "kind", "number"), [(None, REAL, REAL_CLASS), ("FaceSwap", "FaceSwap", 1)])
def test_the_kind_is_real_or_the_manipulation(manipulation: str | None, kind: str, number: int) -> None:
    entry = VideoEntry(
        video_id="some/collection/v",
        path="v.mp4",
        dataset="some",
        label="fake" if manipulation else "real",
        manipulation=manipulation,
        target_id="v",
        group_id="some/v",
    )
    assert (entry.kind, entry.label_as_integer) == (kind, number)
