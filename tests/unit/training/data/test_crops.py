"""Crops of stores: what they differ in, and which would be enlarged."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.errors import ConfigError
from training.data.crops import disagreements, resized

ONE: dict[str, Any] = {
    "frames": {"mode": "uniform", "count": 32},
    "decode": {"backend": "pyav"},
    "detect": {"kind": "mtcnn", "every": 5},
    "landmark": {"kind": "detector"},
    "crop": {"kind": "square", "size_px": 320, "margin": 1.3},
    "encode": {"image_format": "jpeg", "quality": 95},
}


def test_stores_alike_in_their_crops_agree() -> None:
    other = ONE | {
        "frames": {"mode": "stride", "count": 1},
        "detect": {"kind": "mtcnn", "every": 1},
        "split": {"seed": 1},
    }
    assert disagreements({"a": ONE, "b": other}) == []
    assert disagreements({"a": ONE}) == disagreements({}) == disagreements({"a": ONE, "b": {}}) == []


def test_each_difference_is_named_with_its_stores() -> None:
    clips = ONE | {
        "frames": {"mode": "clips", "clip_frames": 10},
        "crop": {"kind": "lrw", "size_px": 150, "margin": 1.3},
    }
    png = ONE | {"encode": {"image_format": "png"}, "decode": {"backend": "decord"}}
    assert disagreements({"a": ONE, "b": clips, "c": png}) == [
        "frames: single frames (a, c), clips (b)",
        "decode.backend: pyav (a, b), decord (c)",
        "crop.kind: square (a, c), lrw (b)",
        "crop.size_px: 320 (a, c), 150 (b)",
        "encode.image_format: jpeg (a, b), png (c)",
    ]


def test_a_setting_that_a_store_is_too_old_for_is_left_out() -> None:
    newer = ONE | {"crop": {**ONE["crop"], "new": 1}}
    assert disagreements({"a": ONE, "b": newer}) == disagreements({"b": newer, "a": ONE}) == []


def test_smaller_crops_are_refused_and_larger_ones_told() -> None:
    with pytest.raises(ConfigError, match=r"crops of b: got 224 px, expected at least 320 px.*--allow-upsampling"):
        list(resized({"a": 320, "b": 224}, 320, may_enlarge=False))
    assert list(resized({"a": 320, "b": 224}, 320, may_enlarge=True)) == ["enlarged from 224 to 320 px (b)"]
    assert list(resized({"a": 320, "b": 224}, 224, may_enlarge=False)) == ["reduced from 320 to 224 px (a)"]
