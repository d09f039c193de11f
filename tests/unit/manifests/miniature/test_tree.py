"""Which files the two layouts have, and which parameters are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from manifests.errors import ConfigError
from manifests.miniature.tree import ClipPlan, Parameters, celeb_df_list, plan_celeb_df, plan_ffpp

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def videos(plans: Iterable[ClipPlan]) -> list[str]:
    return [path for plan in plans for path in plan.video_paths]


def components(edges: set[tuple[str, str]]) -> list[set[str]]:
    """Connected components, found by merging sets: slow and obvious."""
    found: list[set[str]] = []
    for edge in edges:
        touched = [component for component in found if component & set(edge)]
        found = [component for component in found if component not in touched] + [set(edge).union(*touched)]
    return found


def test_the_default_is_forty_originals_and_four_times_forty_fakes() -> None:
    plans = plan_ffpp(Parameters())
    paths = videos(plans)
    assert len(paths) == len(set(paths)) == 200
    originals = {f"original_sequences/youtube/c23/videos/{number:03d}.mp4" for number in range(40)}
    assert {plan.path for plan in plans} == originals
    for method in METHODS:
        names = {
            path.rsplit("/", 1)[1] for path in paths if path.startswith(f"manipulated_sequences/{method}/c23/videos/")
        }
        pairs = {(name[:3], name[4:7]) for name in names}
        assert len(pairs) == 40
        assert {(source, target) for target, source in pairs} == pairs  # both directions
        assert {number for pair in pairs for number in pair} == {path[-7:-4] for path in originals}
    masks = [path for plan in plans for path in plan.mask_paths]
    fakes = {path for path in paths if path not in originals}
    assert {path.replace("/masks/", "/c23/") for path in masks} == fakes
    assert len(masks) == 160


def test_the_footage_comes_first_in_the_name_of_a_fake_and_the_donor_second() -> None:
    for plan in plan_ffpp(Parameters(num_pairs=3)):
        for fake in plan.fakes:
            assert fake.path.endswith(f"/{plan.clip.identity:03d}_{fake.donor.identity:03d}.mp4")
    for plan in plan_celeb_df(Parameters(layout="celeb_df", num_pairs=5)):
        for fake in plan.fakes:
            target = plan.path.removeprefix("Celeb-real/").removesuffix(".mp4").split("_")
            assert fake.path == f"Celeb-synthesis/{target[0]}_id{fake.donor.identity}_{target[1]}.mp4"


@pytest.mark.parametrize(("num_pairs", "num_components"), [(1, 1), (2, 2), (3, 3), (7, 3), (20, 3), (100, 3)])
def test_celeb_df_has_three_groups_of_people_and_every_ordered_pair_once(num_pairs: int, num_components: int) -> None:
    paths = videos(plan_celeb_df(Parameters(layout="celeb_df", num_pairs=num_pairs)))
    assert len(paths) == len(set(paths))
    fakes = [re.fullmatch(r"Celeb-synthesis/(id\d+)_(id\d+)_(\d{4})\.mp4", path) for path in paths]
    ordered = [(fake[1], fake[2]) for fake in fakes if fake]
    assert len(ordered) == len(set(ordered)) == 2 * num_pairs
    assert {(donor, target) for target, donor in ordered} == set(ordered)
    assert len(components(set(ordered))) == num_components
    assert {f"Celeb-real/{fake[1]}_{fake[3]}.mp4" for fake in fakes if fake} <= set(paths)
    youtube = [path for path in paths if path.startswith("YouTube-real/")]
    assert youtube == [f"YouTube-real/{number:05d}.mp4" for number in range(num_pairs)]


def test_the_default_celeb_df_can_be_split_seventy_fifteen_fifteen() -> None:
    paths = videos(plan_celeb_df(Parameters(layout="celeb_df")))
    pairs = {tuple(path.split("/")[1].split("_")[:2]) for path in paths if path.startswith("Celeb-synthesis")}
    groups = components({(pair[0], pair[1]) for pair in pairs})
    sizes = sorted(sum(pair[0] in group for pair in pairs) for group in groups)
    assert sizes == [6, 6, 28]


def test_the_list_says_one_for_real_and_zero_for_fake_and_has_no_last_newline() -> None:
    plans = plan_celeb_df(Parameters(layout="celeb_df"))
    text = celeb_df_list(plans)
    assert not text.endswith("\n")
    lines = [line.split(" ") for line in text.split("\n")]
    assert {label for label, path in lines if path.startswith("Celeb-synthesis/")} == {"0"}
    assert {label for label, path in lines if not path.startswith("Celeb-synthesis/")} == {"1"}
    listed = [path for _, path in lines]
    assert len(listed) == len(set(listed))
    assert set(listed) < set(videos(plans))
    assert {path.split("/")[0] for path in listed} == {"YouTube-real", "Celeb-real", "Celeb-synthesis"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layout": "dfdc"}, r"layout of the sample: got 'dfdc', expected one of ffpp, celeb_df"),
        ({"num_pairs": 0}, r"pairs of the sample: got 0, expected 1\.\.500"),
        ({"num_pairs": 501}, r"pairs of the sample: got 501, expected 1\.\.500"),
        ({"seconds": (4.0, 2.0)}, r"seconds of the sample: got 4.0 to 2.0, expected the shortest length first"),
        ({"seconds": (0.0, 2.0)}, r"both within 0\.2\.\.60"),
        ({"seconds": (1.0, 3600.0)}, r"both within 0\.2\.\.60"),
        ({"seconds": (float("nan"), 2.0)}, r"got nan to 2\.0"),
        ({"seed": -1}, r"seed of the sample: got -1, expected 0 or more"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Parameters(**wrong)  # type: ignore[arg-type]
