"""Near-duplicates: exact against counting by hand, and nothing that the names say already."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manifests.leakage.near_duplicates as module
from manifests.entry import SPLITS, Split, VideoEntry
from manifests.leakage.near_duplicates import RULE, NearPair, Rule, find_near_duplicates
from manifests.probe.frame_hashes import NO_WORD, POSITIONS, words_of

FAR = 0x5555_5555_5555_5555  # 32 bits away from 0, and from all ones
NONE = (None,) * len(POSITIONS)

Words = tuple[int | None, ...]


def video(name: str, split: Split | None, words: Words, target_id: str | None = None) -> VideoEntry:
    """A real video whose footage is its own."""
    return VideoEntry(
        video_id=f"some/real/{name}",
        path=f"{name}.mp4",
        dataset="some",
        label="real",
        target_id=target_id or name,
        group_id=name,
        split=split,
        frame_hashes="".join(NO_WORD if word is None else f"{word:016x}" for word in words),
    )


def low_bits(number: int) -> int:
    return (1 << number) - 1


def test_one_near_word_is_enough_up_to_the_limit() -> None:
    first = video("a", "train", (0, 0, 0, 0))
    near = video("b", "test", (FAR, FAR, low_bits(RULE.max_bits), FAR))
    far = video("c", "test", (FAR, FAR, low_bits(RULE.max_bits + 1), FAR))
    found = find_near_duplicates([first, near, far])
    assert found.by_splits == {("train", "val"): 0, ("train", "test"): 1, ("val", "test"): 0}
    assert found.num_videos == {"train": 1, "val": 0, "test": 1}
    assert found.num_compared == 3
    assert found.closest == (
        NearPair(video_ids=("some/real/a", "some/real/b"), splits=("train", "test"), bits=(32, 32, RULE.max_bits, 32)),
    )


def test_a_word_is_compared_with_the_one_at_its_own_position() -> None:
    videos = [video("a", "train", (0, FAR, FAR, FAR)), video("b", "val", (2**64 - 1, 0, 0, 0))]
    assert sum(find_near_duplicates(videos).by_splits.values()) == 0


def test_empty_words_are_near_to_nothing() -> None:
    videos = [video("a", "train", (None, None, 0, None)), video("b", "val", (None, 0, FAR, 0))]
    found = find_near_duplicates([*videos, video("c", "val", NONE), video("d", "train", NONE)])
    assert sum(found.by_splits.values()) == 0
    assert found.num_compared == 2
    both_empty = find_near_duplicates([*videos, video("e", "test", (None, None, 1, FAR))]).closest
    assert [(pair.video_ids[1][-1], pair.bits) for pair in both_empty] == [("e", (None, None, 1, None))]


def test_one_split_one_footage_or_the_same_bytes_are_no_news() -> None:
    words = (1, 2, 3, 4)
    first = video("a", "train", words)
    assert not find_near_duplicates([first, video("b", "train", words)]).closest
    assert not find_near_duplicates([first, video("b", None, words)]).closest
    assert not find_near_duplicates([first, video("b", "test", words, target_id="a")]).closest
    same_bytes = [replace(first, sha256="00"), replace(video("b", "test", words), sha256="00")]
    assert not find_near_duplicates(same_bytes).closest
    other_bytes = [replace(first, sha256="00"), replace(video("b", "test", words), sha256="01")]
    assert len(find_near_duplicates(other_bytes).closest) == 1
    other_dataset = replace(video("b", "test", words, target_id="a"), dataset="other")
    assert len(find_near_duplicates([first, other_dataset]).closest) == 1


def test_without_hashes_there_is_nothing_to_compare() -> None:
    unprobed = [replace(video(name, split, NONE), frame_hashes=None) for name, split in zip("abc", SPLITS, strict=True)]
    found = find_near_duplicates(unprobed)
    assert (found.num_compared, found.closest) == (0, ())
    assert find_near_duplicates([]).num_videos == {"train": 0, "val": 0, "test": 0}


def test_the_nearest_pairs_come_first() -> None:
    first = video("z", "train", (0, 0, 0, 0))
    others = [video(f"{bits}-{name}", "val", (low_bits(bits), *(FAR,) * 3)) for bits in (3, 0, 5) for name in "ba"]
    found = find_near_duplicates([first, *others], max_examples=3)
    assert [pair.video_ids[1] for pair in found.closest] == ["some/real/0-a", "some/real/0-b", "some/real/3-a"]
    assert found.by_splits["train", "val"] == 6


def test_old_hashes_are_refused() -> None:
    with pytest.raises(ValueError, match="probe the video again"):
        find_near_duplicates([replace(video("a", "train", NONE), frame_hashes="0123")])


# Words of few bits, so that random ones are near as often as not.
words = st.tuples(*[st.none() | st.integers(0, 255)] * len(POSITIONS))
videos = st.lists(st.tuples(words, st.sampled_from(SPLITS), st.integers(0, 20)), max_size=40)
rules = st.builds(Rule, min_words=st.integers(1, len(POSITIONS)), max_bits=st.integers(0, 4))


def is_near(first: VideoEntry, second: VideoEntry, rule: Rule) -> bool:
    """Whether two videos are a pair, word by word."""
    if first.split == second.split or first.target_id == second.target_id:
        return False
    pairs = zip(words_of(first.frame_hashes or ""), words_of(second.frame_hashes or ""), strict=True)
    near = [one is not None and two is not None and (one ^ two).bit_count() <= rule.max_bits for one, two in pairs]
    return sum(near) >= rule.min_words


@given(videos, rules, st.randoms(use_true_random=False))
def test_exact_in_any_order_and_across_blocks(
    made: list[tuple[Words, Split, int]], rule: Rule, order: random.Random
) -> None:
    entries = [video(f"{number:02}", split, found, f"t{target}") for number, (found, split, target) in enumerate(made)]
    by_split = sorted(entries, key=lambda entry: SPLITS.index(entry.split or "train"))
    wanted = [pair for pair in combinations(by_split, 2) if is_near(*pair, rule)]
    shuffled = entries.copy()
    order.shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_PER_BLOCK", 3)
        patch.setattr(module, "COLUMNS_PER_BLOCK", 5)
        found = find_near_duplicates(shuffled, rule, max_examples=1000)
    assert found == find_near_duplicates(entries, rule, max_examples=1000)
    assert {pair.video_ids for pair in found.closest} == {(one.video_id, two.video_id) for one, two in wanted}
    counts = Counter((one.split, two.split) for one, two in wanted)
    assert found.by_splits == {pair: counts[pair] for pair in combinations(SPLITS, 2)}
    involved = Counter(split for split, _ in {(entry.split, entry.video_id) for pair in wanted for entry in pair})
    assert found.num_videos == {split: involved[split] for split in SPLITS}
