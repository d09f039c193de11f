"""Near-duplicates: videos in different splits that look alike, by their perceptual hashes.

Videos of one footage and identical files are left out, since names and digests show them already. The rest are copies
under another name: encoded again, resized or cut. A pair is a warning that a person has to check: two videos with the
same title card are a pair, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations, count

import numpy as np
import numpy.typing as npt

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.probe.frame_hashes import POSITIONS, words_of

Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

# Videos that are compared at a time: at 10 bytes a pair, a block fits into a processor's cache.
ROWS_PER_BLOCK, COLUMNS_PER_BLOCK = 32, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rule for near videos: at least `min_words` of their words differ in at most `max_bits`, position by position.

    Words are compared by position, because a copy keeps the order of the frames. Two videos that show the same studio
    at different times are not copies, and comparing all pairs of words would cost four times as much.
    """

    min_words: int
    """Number of near words, 1..4; an empty word is near to no other."""

    max_bits: int
    """Largest Hamming distance of near words, 0..64."""


# Measured by benchmarks/near_duplicates.py: this rule finds 65 of 70 copies (encoded again, half size, 15 frames a
# second, brighter, half a second cut off, …) and none of 19,500 pairs of different footage, although all footage shows
# the same face. The nearest word differs in 0..4 bits in most copies, and in 10 bits in the nearest different pair. One
# word has to be enough: a copy whose key frames are elsewhere shows other moments at most positions. Two random words
# are this near once in 2 * 10^11.
RULE = Rule(min_words=1, max_bits=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPair:
    """Two similar videos in different splits."""

    video_ids: tuple[str, str]
    """The two videos, in the order of `splits`."""

    splits: tuple[Split, Split]
    """Their splits: train before val before test."""

    bits: tuple[int | None, ...]
    """(4,) Hamming distances by position, 0..64; None where one of the two has an empty word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicates:
    """Counts of all near pairs, and the nearest of them."""

    num_compared: int
    """Videos with a split and at least one word that is not empty."""

    by_splits: dict[tuple[Split, Split], int]
    """Pair of splits → near pairs of videos."""

    num_videos: dict[Split, int]
    """Split → videos that are in a near pair."""

    closest: tuple[NearPair, ...]
    """The nearest pairs, by their nearest words, then by video_id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hashes:
    """The videos of one split as arrays, ordered by video_id."""

    video_ids: list[str]
    """(N,) video_ids."""

    words: Words
    """(N,4) uint64 words; 0 for an empty word."""

    present: Flags
    """(N,4) bool; False for an empty word."""

    footage: Indices
    """(N,) intp: equal numbers mean one footage."""

    content: Indices
    """(N,) intp: equal numbers mean the same bytes."""


def find_near_duplicates(entries: Iterable[VideoEntry], rule: Rule = RULE, *, max_examples: int = 5) -> NearDuplicates:
    """Compare each video with all videos in other splits, exactly and in bounded memory.

    Args:
        entries: videos; those without a split or without hashes are left out.
        rule: rule by which two videos are near.
        max_examples: largest number of pairs in `closest`.

    Raises:
        ValueError: the hashes have another format.
    """
    hashes = _hashes_by_split(entries)
    by_splits: Counter[tuple[Split, Split]] = Counter()
    is_near = {split: np.zeros(len(found.video_ids), dtype=bool) for split, found in hashes.items()}
    closest: list[NearPair] = []
    for first, second in combinations(SPLITS, 2):
        for rows, columns in _near_pairs(hashes[first], hashes[second], rule):
            by_splits[first, second] += len(rows)
            is_near[first][rows] = is_near[second][columns] = True
            found = _closest(hashes[first], hashes[second], rows, columns, (first, second), max_examples)
            closest = nsmallest(max_examples, [*closest, *found], key=_nearest_first)
    return NearDuplicates(
        num_compared=sum(len(found.video_ids) for found in hashes.values()),
        by_splits={pair: by_splits[pair] for pair in combinations(SPLITS, 2)},
        num_videos={split: int(flags.sum()) for split, flags in is_near.items()},
        closest=tuple(closest),
    )


def _hashes_by_split(entries: Iterable[VideoEntry]) -> dict[Split, _Hashes]:
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    rows: dict[Split, list[tuple[str, tuple[int | None, ...], int, int]]] = {split: [] for split in SPLITS}
    for entry in entries:
        if entry.split is None or entry.frame_hashes is None:
            continue
        words = words_of(entry.frame_hashes)
        if any(word is not None for word in words):
            footage = numbers["footage", entry.dataset, entry.target_id]
            content = numbers["content", entry.sha256 or entry.video_id]
            rows[entry.split].append((entry.video_id, words, footage, content))
    return {split: _as_arrays(sorted(found)) for split, found in rows.items()}


def _as_arrays(rows: list[tuple[str, tuple[int | None, ...], int, int]]) -> _Hashes:
    shape = len(rows), len(POSITIONS)
    return _Hashes(
        video_ids=[video_id for video_id, *_ in rows],
        words=np.array([[word or 0 for word in words] for _, words, *_ in rows], dtype=np.uint64).reshape(shape),
        present=np.array([[word is not None for word in words] for _, words, *_ in rows], dtype=bool).reshape(shape),
        footage=np.array([footage for *_, footage, _ in rows], dtype=np.intp),
        content=np.array([content for *_, content in rows], dtype=np.intp),
    )


def _near_pairs(first: _Hashes, second: _Hashes, rule: Rule) -> Iterator[tuple[Indices, Indices]]:
    """Yield the near pairs of two splits, each once, as (M,) row numbers in the first and (M,) in the second.

    A pair with `min_words` near words has a near word in the first 5 - `min_words` positions. Only these positions are
    searched, each for the pairs whose first near word is there.
    """
    for position in range(len(POSITIONS) - rule.min_words + 1):
        for rows, columns in _near_at(first, second, position, rule.max_bits):
            near = _bits(first, second, rows, columns) <= rule.max_bits
            is_new = (near.sum(axis=1) >= rule.min_words) & (near.argmax(axis=1) == position)
            is_new &= first.footage[rows] != second.footage[columns]
            is_new &= first.content[rows] != second.content[columns]
            if is_new.any():
                yield rows[is_new], columns[is_new]


def _near_at(first: _Hashes, second: _Hashes, position: int, max_bits: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the pairs whose words at one position are near, block by block."""
    all_rows, all_columns = (np.flatnonzero(found.present[:, position]) for found in (first, second))
    differing = np.empty((ROWS_PER_BLOCK, COLUMNS_PER_BLOCK), dtype=np.uint64)
    num_bits = np.empty(differing.shape, dtype=np.uint8)
    near = np.empty(differing.shape, dtype=bool)
    for top in range(0, len(all_rows), ROWS_PER_BLOCK):
        rows = all_rows[top : top + ROWS_PER_BLOCK]
        row_words = first.words[rows, position, np.newaxis]
        for left in range(0, len(all_columns), COLUMNS_PER_BLOCK):
            columns = all_columns[left : left + COLUMNS_PER_BLOCK]
            block = slice(len(rows)), slice(len(columns))
            np.bitwise_xor(row_words, second.words[columns, position], out=differing[block])
            np.bitwise_count(differing[block], out=num_bits[block])
            np.less_equal(num_bits[block], max_bits, out=near[block])
            if near[block].any():
                row_of_pair, column_of_pair = np.nonzero(near[block])
                yield rows[row_of_pair], columns[column_of_pair]


def _bits(first: _Hashes, second: _Hashes, rows: Indices, columns: Indices) -> npt.NDArray[np.uint8]:
    """Return the (M,4) uint8 distances of M pairs, 255 where one of the two words is empty."""
    num_bits = np.bitwise_count(first.words[rows] ^ second.words[columns])
    return np.where(first.present[rows] & second.present[columns], num_bits, np.uint8(255))


def _closest(
    first: _Hashes, second: _Hashes, rows: Indices, columns: Indices, splits: tuple[Split, Split], limit: int
) -> list[NearPair]:
    """Return the nearest pairs among the given rows and columns, nearest first."""
    bits = _bits(first, second, rows, columns)
    order = np.lexsort((columns, rows, bits.min(axis=1)))[:limit]
    return [
        NearPair(
            video_ids=(first.video_ids[rows[pair]], second.video_ids[columns[pair]]),
            splits=splits,
            bits=tuple(None if distance == 255 else distance for distance in bits[pair].tolist()),
        )
        for pair in order
    ]


def _nearest_first(pair: NearPair) -> tuple[int, tuple[str, str]]:
    return min(distance for distance in pair.bits if distance is not None), pair.video_ids
