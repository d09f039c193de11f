"""What a run changed in a store: `Difference`, counted by kind and split, listed, and told.

It compares the manifests of two versions, and is written beside the index, so that reports say the same whenever they
are made; no clock and no path goes in. A store's first run has none.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from manifests.entry import REAL, SPLITS
from manifests.errors import StoreCorrupt
from manifests.row import ManifestRow
from storage.files.layout import DIFFERENCE_NAME, write_atomically
from storage.pages.markdown import escaped, table

MAX_LISTED = 100  # videos of each change that are named; all are counted

# Change → what a person is told, in the order in which it is told. A video takes part in one of them at most.
CHANGES: Final[dict[str, str]] = {
    "added": "added",
    "changed": "changed on disk",
    "remade": "made again",
    "dropped": "dropped",
    "rejected": "newly rejected",
    "readmitted": "no longer rejected",
}
NO_SPLIT = "none"  # of a file that was rejected before it was given a split
NO_KIND = "unrecognised"  # of a file that could not be placed

Code = Mapping[str, str]  # versions by name, as `code_of` picks them


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One video that is not what it was."""

    video_id: str
    """Identity, or the path of a file that could not be placed."""

    change: str
    """A key of CHANGES."""

    kind: str
    """`real`, the manipulation, or NO_KIND."""

    split: str
    """`train`, `val`, `test`, or NO_SPLIT."""

    why: str = ""
    """Why it was made again: `settings`, `code`, `relatives`; or the reason of a rejection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a store has become since one of its versions.

    Records that have only moved to another shard, and files that were only touched, are no difference.
    """

    since: int
    """Number of the version that the run began from."""

    counts: dict[str, dict[str, dict[str, int]]]
    """Change → kind → split → videos, where there are any."""

    listed: tuple[Changed, ...] = ()
    """The first MAX_LISTED of each change, by change and video_id."""

    settings: tuple[str, ...] = ()
    """`name: before → after` of each setting that differs."""

    num_vanished: int = 0
    """Stored videos whose files are no longer on disk; their records stay."""

    vanished: tuple[str, ...] = ()
    """The first MAX_LISTED of their video_ids."""

    other_code: dict[str, int] = field(default_factory=dict)
    """Versions other than the run's → stored videos that they made."""

    @property
    def totals(self) -> dict[str, int]:
        """Change → videos, where there are any."""
        return {
            change: sum(sum(by_split.values()) for by_split in by_kind.values())
            for change, by_kind in self.counts.items()
        }

    @property
    def is_empty(self) -> bool:
        """Whether every video is as it was."""
        return not self.counts

    def rows(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield (change in words, kind, videos by split: train, val, test, none)."""
        for change, by_kind in self.counts.items():
            for kind, by_split in by_kind.items():
                yield CHANGES[change], kind, tuple(by_split.get(split, 0) for split in (*SPLITS, NO_SPLIT))


def code_of(made_with: Mapping[str, str]) -> dict[str, str]:
    """Return the part of a shard's `made_with` that is called its code: faceshards itself and the model files."""
    return {name: made for name, made in made_with.items() if name == "faceshards" or name.startswith("model/")}


def code_in_words(made: Code, now: Code) -> str:
    """Return what differs from today's code, such as `faceshards 0.1.0, model/x 1a2b3c4d5e6f`; empty for nothing."""
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
    """Return what a store has become.

    Args:
        since: number of the version before.
        before: the manifest of that version.
        after: the manifest as it is now.
        code: shard's file name → the code that made it, of all shards on both sides.
        now: the code of this run.
        settings: what differs between the two configurations, a line each.
        vanished: video_ids of stored videos that are no longer on disk.
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
    """Return versions that differ from today's → stored videos that they made, most first."""
    made = Counter(row.shard for row in rows if row.status == "stored" and row.shard in code)
    counted: Counter[str] = Counter()
    for shard, num_videos in sorted(made.items(), key=str):
        counted[code_in_words(code[str(shard)], now)] += num_videos
    return {versions: count for versions, count in counted.most_common() if versions}


def write_difference(store_dir: Path, difference: Difference | None) -> None:
    """Keep a difference beside the store's index; an empty one leaves the earlier one, None removes it."""
    path = store_dir / DIFFERENCE_NAME
    if difference is None:
        path.unlink(missing_ok=True)
    elif not difference.is_empty:
        text = json.dumps(asdict(difference), indent=2, ensure_ascii=False) + "\n"
        write_atomically(path, text.encode("utf-8"))


def read_difference(folder: Path) -> Difference | None:
    """Return the difference that lies in the folder of a store, or of a version, or None where there is none.

    Raises:
        StoreCorrupt: the file is not a difference.
    """
    path = folder / DIFFERENCE_NAME
    try:
        plain: dict[str, Any] = json.loads(path.read_bytes())
        listed = tuple(Changed(**changed) for changed in plain["listed"])
        lists = {name: tuple(plain[name]) for name in ("settings", "vanished")}
        return Difference(**(plain | lists | {"listed": listed}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(f"{path}: got {error!r}, expected what a run changed; delete the file") from error


def in_a_line(difference: Difference | None) -> str:
    """Return the totals, such as `2 added, 1 changed on disk`."""
    if difference is None:
        return "the first"
    return ", ".join(f"{count:,} {CHANGES[change]}" for change, count in difference.totals.items()) or "no video"


def describe_difference(difference: Difference) -> list[str]:
    """Return what a person should be told, a line each: totals, then why, then what was left as it is."""
    lines = [f"Since version {difference.since}: {in_a_line(difference)}."]
    if difference.settings:
        lines.append(f"Settings: {'; '.join(difference.settings)}.")
    if difference.num_vanished:
        lines.append(vanished_in_words(difference.num_vanished))
    lines += [other_code_in_words(versions, count) for versions, count in difference.other_code.items()]
    return lines


def vanished_in_words(num_vanished: int) -> str:
    """Return what to tell of stored videos that are not on disk."""
    return f"Stored videos no longer on disk: {num_vanished:,}. Their records stay (vanished=drop lets them go)."


def other_code_in_words(versions: str, num_videos: int) -> str:
    """Return what to tell of stored videos that other versions made."""
    return f"Stored videos made with {versions}: {num_videos:,}. They stay (remake=code makes them again)."


def difference_markdown(difference: Difference) -> str:
    """Return the difference as Markdown, for an artifact in Prefect."""
    rows = [[change, escaped(kind), *(f"{count:,}" for count in counts)] for change, kind, counts in difference.rows()]
    lines = [f"{escaped(line)}  " for line in describe_difference(difference)]
    lines += ["", *table(("change", "kind", *SPLITS, "no split"), rows, num_text_columns=2)]
    lines += ["", *(f"- {CHANGES[item.change]}: {escaped(item.video_id)} {item.why}" for item in difference.listed)]
    return "\n".join(lines) + "\n"


def _changed(was: ManifestRow | None, row: ManifestRow | None, code: Mapping[str, Code]) -> Changed | None:
    """Return what became of one video, None for nothing."""
    of, change, why = row or was, "", ""
    if row is None:
        change = "dropped" if was is not None and was.status == "stored" else "readmitted"
    elif row.status == "rejected":
        change, why = ("", "") if was is not None and was.status == "rejected" else ("rejected", str(row.reason))
    elif was is None:
        change = "added"
    elif was.status == "rejected":
        change = "readmitted"
    elif _content(was) != _content(row):
        change = "changed"
    else:
        why = ", ".join(_reasons(was, row, code))
        change = "remade" if why else ""
    if not change or of is None:
        return None
    entry = of.entry
    kind = NO_KIND if entry is None else entry.kind
    split = NO_SPLIT if entry is None or entry.split is None else entry.split
    return Changed(video_id=of.video_id, change=change, kind=kind, split=split, why=why)


def _content(row: ManifestRow) -> str | None:
    return row.entry.content_digest if row.entry is not None and row.entry.is_probed else None


def _reasons(was: ManifestRow, row: ManifestRow, code: Mapping[str, Code]) -> Iterator[str]:
    """Yield why a video's records may have other bytes although its file is the same."""
    if was.config_digest != row.config_digest:
        yield "settings"
    made, made_before = code.get(str(row.shard)), code.get(str(was.shard))
    if made_before is not None and made != made_before:  # of a lost shard nobody knows what made it
        yield "code"
    if was.relatives_digest != row.relatives_digest:
        yield "relatives"


def _counted(members: Iterable[Changed]) -> dict[str, dict[str, int]]:
    """Return kind → split → videos, real ones first and then by name, splits in their order."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for changed in members:
        counts[changed.kind][changed.split] += 1
    kinds = sorted(counts, key=lambda kind: (kind != REAL, kind))
    return {
        kind: {split: counts[kind][split] for split in (*SPLITS, NO_SPLIT) if counts[kind][split]} for kind in kinds
    }
