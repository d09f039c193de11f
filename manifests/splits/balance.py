"""Assignment of whole groups to train, val and test, as near to the wanted shares as possible in every stratum."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from manifests.entry import SPLITS, Split, VideoEntry

Ratios = tuple[float, float, float]  # shares of train, val and test; they sum to 1

# A tie goes to train before test before val: of two groups of nearly the same size, the larger goes to test.
ORDER_OF_TIES: tuple[Split, ...] = ("train", "test", "val")

# Least gain for which a group is moved: a smaller one may be a rounding error. Costs are squared shares of videos.
LEAST_GAIN = 1e-9
# Every pass brings the shares nearer to the wanted ones; no random graph in the tests needed more than three passes.
MAX_PASSES = 10

# Dataset, collection and compression: shares are balanced among the videos of each stratum.
Stratum = tuple[str, str, str | None]


class Balance:
    """The number of videos of each stratum that each split still lacks.

    The distance from the wanted shares is the sum over strata and splits of (videos lacking)² / videos of the stratum:
    a small stratum, such as Celeb-DF's 300 real videos of unknown people, is balanced as well as a large one.
    """

    def __init__(self, totals: Mapping[Stratum, int], ratios: Ratios) -> None:
        self._totals = totals
        self._lacking = {
            stratum: {split: share * total for split, share in zip(SPLITS, ratios, strict=True)}
            for stratum, total in totals.items()
        }

    def take(self, counts: Mapping[Stratum, int], split: Split, sign: int = 1) -> None:
        """Put a group's videos into a split; with `sign` −1, take them out again."""
        for stratum, count in counts.items():
            self._lacking[stratum][split] -= sign * count

    def need(self, counts: Mapping[Stratum, int], split: Split) -> float:
        """Return how much a split lacks of a group's strata; a group goes to the split with the highest need."""
        return sum(count * self._lacking[stratum][split] / self._totals[stratum] for stratum, count in counts.items())

    def neediest(self, counts: Mapping[Stratum, int]) -> Split:
        """Return the split with the highest need of a group."""
        return max(ORDER_OF_TIES, key=lambda split: self.need(counts, split))


def place(
    entries: Iterable[VideoEntry], group_of: Callable[[VideoEntry], str], ratios: Ratios, seed: int
) -> dict[str, Split]:
    """Return the split of every group: its earlier split, or else the split that lacks most of its strata.

    The largest groups are placed first; then new groups are moved, one at a time, as long as a move brings the shares
    nearer to the wanted ones. If all groups have the same composition, the shares are met exactly wherever whole groups
    allow it: the 500 pairs of FaceForensics++ become 350/75/75.

    Args:
        entries: videos; a video that has a split decides the split of its group.
        group_of: returns the name of a video's group.
        ratios: wanted shares of train, val and test, in every stratum.
        seed: seed of the random order of groups of equal size.
    """
    counts: dict[str, Counter[Stratum]] = defaultdict(Counter)
    earlier: dict[str, Counter[Split]] = defaultdict(Counter)
    totals: Counter[Stratum] = Counter()
    for entry in sorted(entries, key=lambda entry: entry.video_id):  # a fixed order of additions, for equal sums
        group, stratum = group_of(entry), (entry.dataset, entry.collection, entry.compression)
        counts[group][stratum] += 1
        totals[stratum] += 1
        if entry.split is not None:
            earlier[group][entry.split] += 1
    balance = Balance(totals, ratios)
    placed = {group: max(SPLITS, key=lambda split: found[split]) for group, found in earlier.items()}
    for group, split in placed.items():
        balance.take(counts[group], split)

    def draw(group: str) -> tuple[int, str]:
        return -counts[group].total(), hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()

    new = sorted(counts.keys() - placed.keys(), key=draw)
    for group in new:
        placed[group] = balance.neediest(counts[group])
        balance.take(counts[group], placed[group])
    _improve(balance, counts, new, placed)
    return placed


def _improve(
    balance: Balance, counts: Mapping[str, Counter[Stratum]], movable: Sequence[str], placed: dict[str, Split]
) -> None:
    """Move single groups as long as a move brings the shares nearer to the wanted ones; changes `placed`."""
    for _ in range(MAX_PASSES):
        num_moved = 0
        for group in movable:
            here = placed[group]
            balance.take(counts[group], here, -1)
            there = balance.neediest(counts[group])
            if balance.need(counts[group], there) - balance.need(counts[group], here) > LEAST_GAIN:
                placed[group] = there
                num_moved += 1
            balance.take(counts[group], placed[group])
        if not num_moved:
            return
