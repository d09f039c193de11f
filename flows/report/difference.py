"""Difference between two versions of a store: which videos a run added, changed, dropped or rejected.

It is computed from the manifests of both versions and kept in `difference.json` beside the index, without dates and
absolute paths. A store's first version has none.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from manifests.entry import REAL, SPLITS
from manifests.errors import StoreCorrupt
from manifests.files import write_atomically
from manifests.row import ManifestRow
from storage.files.layout import DIFFERENCE_NAME, RECORDS_VERSION_KEY

MAX_LISTED = 100  # videos that are listed for each change; all of them are counted

# Change → its name for people, in the order of reports. Each video is in one of them at most.
CHANGES: Final[dict[str, str]] = {
    "added": "added",
    "changed": "changed on disk",
    "remade": "processed again",
    "dropped": "dropped",
    "rejected": "newly rejected",
    "readmitted": "no longer rejected",
}
FIRST_RECORDS_VERSION = "1"  # for shards that were written before the version was recorded
NO_SPLIT = "none"  # split of a file that was rejected before splits were assigned
NO_KIND = "unrecognised"  # kind of a file that is no video of the dataset

Code = Mapping[str, str]  # records version or model file → version: the result of `code_of`


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One video that differs between the two versions."""

    video_id: str
    """Identity, or the path of a file that is no video of the dataset."""

    change: str
    """A key of CHANGES."""

    kind: str
    """`real`, the manipulation, or NO_KIND."""

    split: str
    """`train`, `val`, `test`, or NO_SPLIT."""

    why: str = ""
    """Why it was processed again (`settings`, `code`, `relatives`), or the reason of a rejection; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Difference between a store and an earlier version of it.

    A record that only moved to another shard, or a file of which only the time changed, is not a difference.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    since: int
    """Number of the earlier version."""

    counts: dict[str, dict[str, dict[str, int]]]
    """Change → kind → split → number of videos, without zeros."""

    listed: tuple[Changed, ...] = ()
    """The first MAX_LISTED videos of each change, by change and video_id."""

    settings: tuple[str, ...] = ()
    """`name: before → after` for each setting that differs."""

    num_vanished: int = 0
    """Stored videos whose files are no longer on disk; their records are kept."""

    vanished: tuple[str, ...] = ()
    """video_ids of the first MAX_LISTED of them."""

    other_code: dict[str, int] = field(default_factory=dict)
    """Code other than the run's, in the words of `code_in_words` → number of stored videos made with it."""

    @property
    def totals(self) -> dict[str, int]:
        """Change → number of videos, without zeros."""
        return {
            change: sum(sum(by_split.values()) for by_split in by_kind.values())
            for change, by_kind in self.counts.items()
        }

    @property
    def is_empty(self) -> bool:
        """Whether no video differs."""
        return not self.counts

    def rows(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield (name of the change, kind, number of videos in train, val, test and without a split)."""
        for change, by_kind in self.counts.items():
            for kind, by_split in by_kind.items():
                yield CHANGES[change], kind, tuple(by_split.get(split, 0) for split in (*SPLITS, NO_SPLIT))


def code_of(made_with: Mapping[str, str]) -> dict[str, str]:
    """Return the versions in a shard's `made_with` that count as its code: of the records and of model files.

    Versions of packages are left out, also that of faceshards: most releases change no record.
    """
    models = {name: digest for name, digest in made_with.items() if name.startswith("model/")}
    return {RECORDS_VERSION_KEY: made_with.get(RECORDS_VERSION_KEY, FIRST_RECORDS_VERSION)} | models


def code_in_words(made: Code, now: Code) -> str:
    """Return the versions that differ from `now`, such as `records version 1, model/x 1a2b3c4d5e6f`; empty for none."""
    names = sorted(made.keys() | now.keys())
    return ", ".join(f"{name} {made.get(name, 'none')[:12]}" for name in names if made.get(name) != now.get(name))


def compare(
    since: int,
    before: Iterable[ManifestRow],
    after: Iterable[ManifestRow],
    *,
    code: Mapping[str, Code],
    now: Code,
    settings: Sequence[str] = (),
    vanished: Iterable[str] = (),
) -> Difference:
    """Return the difference between a store and an earlier version of it.

    Args:
        since: number of the earlier version.
        before: rows of its manifest.
        after: rows of the manifest now.
        code: file name of a shard → the code that made it, for the shards of both versions.
        now: code of this run.
        settings: settings that differ between the two configurations, a line each.
        vanished: video_ids of stored videos whose files are no longer on disk.
    """
    was = {row.video_id: row for row in before}
    rows = {row.video_id: row for row in after}
    found = [_changed(was.get(name), rows.get(name), code) for name in sorted(was.keys() | rows.keys())]
    by_change: dict[str, list[Changed]] = {change: [] for change in CHANGES}
    for changed in filter(None, found):
        by_change[changed.change].append(changed)
    gone = sorted(set(vanished) & {name for name, row in rows.items() if row.status == "stored"})
    return Difference(
        since=since,
        counts={change: _counted(members) for change, members in by_change.items() if members},
        listed=tuple(changed for members in by_change.values() for changed in members[:MAX_LISTED]),
        settings=tuple(settings),
        num_vanished=len(gone),
        vanished=tuple(gone[:MAX_LISTED]),
        other_code=count_other_code(rows.values(), code, now),
    )


def count_other_code(rows: Iterable[ManifestRow], code: Mapping[str, Code], now: Code) -> dict[str, int]:
    """Return the number of stored videos for each code other than `now` (in words), the largest number first."""
    made = Counter(row.shard for row in rows if row.status == "stored" and row.shard in code)
    counted: Counter[str] = Counter()
    for shard, num_videos in sorted(made.items(), key=str):
        counted[code_in_words(code[str(shard)], now)] += num_videos
    return {versions: count for versions, count in counted.most_common() if versions}


def write_difference(store_dir: Path, difference: Difference | None) -> None:
    """Write `difference.json` beside a store's index; an empty difference keeps the earlier file, None deletes it."""
    path = store_dir / DIFFERENCE_NAME
    if difference is None:
        path.unlink(missing_ok=True)
    elif not difference.is_empty:
        text = json.dumps(asdict(difference), indent=2, ensure_ascii=False) + "\n"
        write_atomically(path, text.encode("utf-8"))


def read_difference(folder: Path) -> Difference | None:
    """Read `difference.json` from the folder of a store or of a version; return None if there is none.

    Raises:
        StoreCorrupt: the file cannot be read as a difference.
    """
    path = folder / DIFFERENCE_NAME
    try:
        return TypeAdapter(Difference).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreCorrupt(f"{path}: got {error!r}, expected a difference between versions; delete the file") from error


def _changed(was: ManifestRow | None, row: ManifestRow | None, code: Mapping[str, Code]) -> Changed | None:
    """Return how one video differs, or None if it does not."""
    shown, found = row or was, _change(was, row, code)
    if shown is None or found is None:
        return None
    change, why = found
    kind, split = (NO_KIND, None) if shown.entry is None else (shown.entry.kind, shown.entry.split)
    return Changed(video_id=shown.video_id, change=change, kind=kind, split=split or NO_SPLIT, why=why)


def _change(was: ManifestRow | None, row: ManifestRow | None, code: Mapping[str, Code]) -> tuple[str, str] | None:
    """Return (a key of CHANGES, its cause) for one video, or None if it does not differ."""
    if row is None:
        return "dropped" if was is not None and was.status == "stored" else "readmitted", ""
    if row.status == "rejected":
        return None if was is not None and was.status == "rejected" else ("rejected", str(row.reason))
    if was is None:
        return "added", ""
    if was.status == "rejected":
        return "readmitted", ""
    if _content(was) != _content(row):
        return "changed", ""
    why = ", ".join(_reasons(was, row, code))
    return ("remade", why) if why else None


def _content(row: ManifestRow) -> str | None:
    return row.entry.content_digest if row.entry is not None and row.entry.is_probed else None


def _reasons(was: ManifestRow, row: ManifestRow, code: Mapping[str, Code]) -> Iterator[str]:
    """Yield the causes for which a video's records may have changed although its file has not."""
    if was.config_digest != row.config_digest:
        yield "settings"
    made, made_before = code.get(str(row.shard)), code.get(str(was.shard))
    if made_before is not None and made != made_before:  # the code of a lost shard is unknown
        yield "code"
    if was.relatives_digest != row.relatives_digest:
        yield "relatives"


def _counted(members: Iterable[Changed]) -> dict[str, dict[str, int]]:
    """Return kind → split → number of videos: `real` first, then manipulations by name; splits in their order."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for changed in members:
        counts[changed.kind][changed.split] += 1
    kinds = sorted(counts, key=lambda kind: (kind != REAL, kind))
    return {
        kind: {split: counts[kind][split] for split in (*SPLITS, NO_SPLIT) if counts[kind][split]} for kind in kinds
    }
