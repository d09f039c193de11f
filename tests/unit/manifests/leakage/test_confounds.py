"""Confounds: warned of where they are large and sure, silent where they are small or nobody can know."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from math import comb, sqrt
from typing import Any

import pytest

from manifests.entry import Label, Split, VideoEntry
from manifests.leakage.confounds import KINDS, LEAST_CLASS_RATIO, Confound, find_confounds

MEASURED: dict[str, Any] = {
    "num_frames": 300,
    "fps": Fraction(25),
    "width": 640,
    "height": 480,
    "num_bytes": 300 * 640 * 480 // 8,  # one bit a pixel
}


def video(name: str, label: Label, split: Split | None = "train", **more: Any) -> VideoEntry:
    """A video of its own footage, or of the footage `target_id`."""
    manipulation = more.pop("manipulation", "swap") if label == "fake" else None
    made: dict[str, Any] = {"target_id": name, "manipulation": manipulation, "group_id": name} | more
    return VideoEntry(
        video_id=f"some/{manipulation or 'real'}/{name}",
        path=f"{label}/{name}.mp4",
        dataset="some",
        label=label,
        split=split,
        **made,
    )


def pairs(number: int, split: Split = "train", prefix: str = "", **fake: Any) -> list[VideoEntry]:
    """Real videos and as many fakes of their footage, measured alike but for what `fake` says."""
    real = [video(f"{prefix}{place}", "real", split, **MEASURED) for place in range(number)]
    changed = MEASURED | fake
    return real + [video(f"f{entry.target_id}", "fake", split, target_id=entry.target_id, **changed) for entry in real]


def with_values(name: str, real: Sequence[object], fake: Sequence[object]) -> list[VideoEntry]:
    """Videos whose column `name` has these values."""
    made = [video(f"{place}", "real", **(MEASURED | {name: value})) for place, value in enumerate(real)]
    for place, value in enumerate(fake):
        made.append(video(f"f{place}", "fake", target_id=f"{place % len(real)}", **(MEASURED | {name: value})))
    return made


def kinds_and_splits(found: Sequence[Confound]) -> list[tuple[str, str]]:
    return [(confound.kind, confound.split) for confound in found]


def test_alike_is_no_warning() -> None:
    assert find_confounds(pairs(200)) == ()
    assert find_confounds([]) == ()


@pytest.mark.parametrize(
    ("kind", "fake"),
    [
        ("height", {"height": 720, "width": 1280, "num_bytes": 300 * 1280 * 720 // 8}),
        ("bits per pixel", {"num_bytes": 300 * 640 * 480 // 80}),
        ("fps", {"fps": Fraction(30000, 1001)}),
        ("length", {"num_frames": 200, "num_bytes": 200 * 640 * 480 // 8}),
        ("compression", {"compression": "c40"}),
    ],
)
def test_each_column_is_told_from_the_others(kind: str, fake: dict[str, Any]) -> None:
    found = find_confounds(pairs(50, **fake))
    assert kinds_and_splits(found) == [(kind, "all"), (kind, "train")]
    assert found[0].statistic == 1
    assert found[0].p is not None
    assert found[0].p < 1e-10
    assert f"real and fake differ in {kind}: " in found[0].message


def test_the_measure_of_compression_is_bits_per_pixel() -> None:
    message = find_confounds(pairs(50, num_bytes=300 * 640 * 480 // 80))[0].message
    assert "medians 1.000 and 0.100 bits; one threshold on it is right for 100%" in message


def test_the_statistic_counted_by_hand() -> None:
    """Below 20 lie all real videos' lengths but a quarter, and a quarter of the fakes': 75 % - 25 % is the distance."""
    real = [10] * 75 + [30] * 25
    fake = [10] * 25 + [30] * 75
    (found, _) = find_confounds(with_values("num_frames", real, fake))[-2:]
    assert found.statistic == 0.5
    assert "medians 10 and 30 frames; one threshold on it is right for 75%" in found.message


def test_p_is_exact_where_samples_are_small() -> None:
    """Of all ways to draw 8 of 16 different values, two keep the 8 real ones together at an end."""
    found = find_confounds(with_values("num_frames", range(1, 9), range(11, 19)))[0]
    assert found.p == pytest.approx(2 / comb(16, 8), rel=5e-3)


def test_few_videos_say_nothing() -> None:
    for number in (1, 3, 6):
        assert find_confounds(with_values("height", range(1, 1 + number), range(101, 101 + number))) == ()


def test_many_videos_do_not_make_a_small_difference_large() -> None:
    real = [place % 100 for place in range(1, 3001)]
    fake = [15 + place % 100 for place in range(1, 3001)]  # a distance of 0.15 that chance gives in 1 of 10^29
    assert "height" not in {found.kind for found in find_confounds(with_values("height", real, fake))}
    fake = [25 + place % 100 for place in range(1, 3001)]
    found = [found for found in find_confounds(with_values("height", real, fake)) if found.kind == "height"]
    assert [confound.statistic for confound in found] == [0.25, 0.25]


def test_cramers_v_of_a_known_table() -> None:
    """For two labels and two values V is |ad - bc| over the root of the product of the four sums."""
    names = ["c23"] * 60 + ["c40"] * 40, ["c23"] * 20 + ["c40"] * 80
    entries = with_values("compression", *names)
    found = find_confounds(entries)[0]
    assert found.kind == "compression"
    assert found.statistic == pytest.approx((60 * 80 - 40 * 20) / sqrt(100 * 100 * 80 * 120), abs=1e-4)
    assert found.message == "real and fake differ in compression: c23 60% and 20%, c40 40% and 80% of them"


def test_a_warning_names_the_split_where_it_is() -> None:
    entries = pairs(50, "train") + pairs(50, "val", "v") + pairs(50, "test", "t", fps=Fraction(50))
    found = find_confounds(entries)
    assert kinds_and_splits(found) == [("fps", "all"), ("fps", "test")]
    assert [confound.statistic for confound in found] == [pytest.approx(1 / 3, abs=1e-4), 1]


def test_what_was_not_measured_is_skipped() -> None:
    unprobed = [video(f"{place}", "real") for place in range(50)]
    unprobed += [video(f"f{place}", "fake", target_id=f"{place}") for place in range(50)]
    assert find_confounds(unprobed) == ()
    only_real = [*unprobed[50:], *(video(f"{place}", "real", **MEASURED) for place in range(50))]
    assert find_confounds(only_real) == ()
    without_rate = pairs(50, fps=Fraction(0))  # a container that does not say
    assert find_confounds(without_rate) == ()


@pytest.mark.parametrize(("num_fakes", "warned"), [(39, False), (40, True)])
def test_class_balance(num_fakes: int, warned: bool) -> None:
    assert LEAST_CLASS_RATIO == 4
    entries = [video(f"{place}", "real") for place in range(10)]
    entries += [video(f"f{place}", "fake", target_id=f"{place % 10}") for place in range(num_fakes)]
    found = find_confounds(entries)
    assert kinds_and_splits(found) == ([("class balance", "all"), ("class balance", "train")] if warned else [])
    if warned:
        assert found[0].message == "10 real and 40 fake videos, 1 : 4.0; always answering 'fake' is right for 80%"
        assert (found[0].statistic, found[0].p) == (4.0, None)


def test_too_many_real_videos_are_no_better() -> None:
    entries = [video(f"{place}", "real") for place in range(10)] + [video("f0", "fake", target_id="0")]
    assert find_confounds(entries)[0].message.endswith("1 : 10.0; always answering 'real' is right for 91%")


def test_a_split_without_one_of_the_labels() -> None:
    entries = [*pairs(2), video("v", "real", "val"), video("t", "fake", "test", target_id="0")]
    found = find_confounds(entries)
    assert kinds_and_splits(found) == [("missing class", "val"), ("missing class", "test")]
    assert [confound.message.partition(":")[0] for confound in found] == [
        "no fake video among 1",
        "no real video among 1",
    ]


def test_fakes_without_their_originals() -> None:
    reals = [video(f"{place}", "real") for place in range(3)]
    fakes = [video(f"d{place}", "fake", target_id=f"{place}", manipulation="Deepfakes") for place in range(4)]
    scenes = [video(f"s{place}", "fake", target_id=f"s{place}__hall", manipulation="Actors") for place in range(2)]
    found = find_confounds(reals + fakes + scenes)
    assert [(confound.kind, confound.split, confound.statistic) for confound in found] == [
        ("originals", "all", 1.0),
        ("originals", "all", 0.25),
    ]
    assert found[0].message == (
        "some Actors: none of its 2 fakes has its original here; "
        "a model trained on it against other real videos learns the scene, not the forgery"
    )
    assert found[1].message == "some Deepfakes: 1 of 4 fakes are here without their original"


def test_a_fake_is_no_original_and_neither_is_another_dataset() -> None:
    fake = video("f", "fake", target_id="0")
    assert find_confounds([fake, video("0", "real")]) == ()
    elsewhere = VideoEntry(
        video_id="other/real/0", path="0", dataset="other", label="real", target_id="0", group_id="0", split="train"
    )
    twin = video("g", "fake", target_id="0", manipulation="other")
    assert [found.kind for found in find_confounds([fake, twin, elsewhere])] == ["originals", "originals"]


def test_fakes_of_which_nobody_knows_the_footage() -> None:
    entries = [video("a", "real"), video("x", "fake"), video("y", "fake")]
    (found,) = find_confounds(entries)
    assert found.message == ("some swap: the footage of its 2 fakes is unknown, so it may or may not be here")


def test_neither_order_nor_videos_without_a_split_matter() -> None:
    entries = [*pairs(20, fps=Fraction(50)), video("f", "fake", target_id="?")]
    unassigned = [video(f"n{place}", "fake", None, **MEASURED) for place in range(500)]
    shuffled = entries + unassigned
    random.Random(0).shuffle(shuffled)
    assert find_confounds(shuffled) == find_confounds(entries)
    assert {confound.kind for confound in find_confounds(entries)} <= set(KINDS)


def test_the_very_same_bytes_under_both_labels() -> None:
    twins = [video("a", "real", sha256="aa"), video("b", "fake", target_id="a", sha256="aa")]
    (warning,) = find_confounds([*twins, video("c", "real", sha256="cc"), video("d", "fake", target_id="c")])
    assert (warning.kind, warning.split) == ("both labels", "all")
    assert warning.message.startswith(
        "1 of the files is here as real and, with the same bytes, as fake: some/real/a and some/swap/b"
    )
