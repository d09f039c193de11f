"""Report of a store: `report.json` for programs and `report.html` for people.

Both are computed from the store alone: its index, `videos.parquet`, the descriptions in its shards and, for the page,
some crops. `faceshards report OUT` writes them again. They contain neither dates nor absolute paths, so equal stores
have equal reports, byte for byte.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flows.config.preprocess import ReportSettings, read_yaml
from flows.report.contact_sheet import SheetVideo, contact_sheet
from flows.report.difference import CHANGES, Difference, read_difference
from flows.report.found_again import found_again
from flows.report.text import describe_difference
from flows.report.totals import Report, compute_report
from manifests.datasets.ignored import Ignored, read_ignored
from manifests.datasets.ignored import describe as describe_ignored
from manifests.entry import SPLITS
from manifests.errors import ConfigError, StoreCorrupt
from manifests.files import write_atomically
from manifests.leakage.audit import NEAR_DUPLICATE
from manifests.leakage.text import counted, sentences_about_test
from manifests.row import ManifestRow
from manifests.videos_table import read_table, row_from_plain
from storage.files.layout import (
    CONFIG_NAME,
    IGNORED_NAME,
    REPORT_HTML_NAME,
    REPORT_JSON_NAME,
    SHARDS_DIR,
    VIDEOS_NAME,
)
from storage.index import StoreIndex, read_index
from storage.pages.environment import page_environment
from storage.shard import ShardReader

TEMPLATES_DIR = Path(__file__).parent / "templates"
TEMPLATE_NAME = "report.html.j2"
# Kinds of values that splits can share → their meaning, for the table of the page.
SHARED_KINDS = {
    "video": "the same clip, at any compression",
    "target": "footage that videos were made from",
    "source": "person whose face a fake shows",
    "identity": "person in the footage or source of the face",
    "recording": "recording that several sequences of footage were cut from",
    "group": "videos that belong together by footage or people",
    "identical file": "files with equal bytes",
    NEAR_DUPLICATE: "pairs of videos whose frames look alike",
}
MAX_LISTED = 100  # rows of each list on the page; `report.json` has all of them


def build_report(store_dir: Path) -> Report:
    """Compute the report of a store, complete or not; memory grows with the number of videos, not of records.

    Raises:
        StoreMissing: there is no store.
        StoreCorrupt: a file of the store cannot be read, or its manifest and its index disagree.
    """
    return compute_report(*_read(store_dir))


def write_report(store_dir: Path) -> Report:
    """Write `report.json` and `report.html` into a store, each atomically, and return the report.

    Raises:
        StoreMissing: there is no store.
        StoreCorrupt: a file of the store cannot be read, or its manifest and its index disagree.
    """
    index, rows, versions, difference, ignored = _read(store_dir)
    report = compute_report(index, rows, versions, difference, ignored)
    stored = [row for row in rows if row.status == "stored"]
    again = found_again(store_dir, stored, report.kinds, _num_checked(store_dir))
    report = replace(report, found_again=again)
    text = json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"
    page = _page(report, contact_sheet(store_dir, rows, report.kinds))
    write_atomically(store_dir / REPORT_JSON_NAME, text.encode("utf-8"))
    write_atomically(store_dir / REPORT_HTML_NAME, page.encode("utf-8"))
    return report


def read_report(store_dir: Path) -> Report:
    """Return the report that a store's last run wrote, without computing it again.

    The report is computed only if `report.json` is missing, belongs to another state of the store, or has other fields.

    Raises:
        StoreMissing: there is no store.
        StoreCorrupt: a file of the store cannot be read, or its manifest and its index disagree.
    """
    index = read_index(store_dir)
    try:
        report = TypeAdapter(Report).validate_json((store_dir / REPORT_JSON_NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return build_report(store_dir)
    return report if report.is_of(index) else build_report(store_dir)


def _num_checked(store_dir: Path) -> int:
    """Return `report.crops_checked` of a store's last run; 0 if its settings are not known."""
    if not (store_dir / CONFIG_NAME).exists():
        return 0
    try:
        settings = read_yaml(store_dir / CONFIG_NAME).get("report", {})
        return ReportSettings.model_validate(settings).crops_checked
    except (ConfigError, ValidationError):
        return 0


def _page(report: Report, sheet: Sequence[SheetVideo]) -> str:
    """Return the HTML page."""
    environment = page_environment(TEMPLATES_DIR)
    environment.filters |= {
        "points": lambda difference: f"{100 * difference:+.1f}".replace("-", "−"),
        "plain": partial(json.dumps, ensure_ascii=False),
    }
    by_reason = groupby(report.rejections, key=attrgetter("stage", "reason"))
    return environment.get_template(TEMPLATE_NAME).render(
        report=report,
        totals=report.totals,
        near_duplicate=NEAR_DUPLICATE,
        shared_kinds=SHARED_KINDS,
        leaking=[
            counted(found) for found in report.leakage.shared if found.num_shared and found.kind != NEAR_DUPLICATE
        ],
        held_out=[sentence for found in report.leakage.held_out for sentence in sentences_about_test(found)],
        rejections=[(stage_and_reason, list(found)) for stage_and_reason, found in by_reason],
        sheet=sheet,
        splits=SPLITS,
        changes=CHANGES,
        ignored=describe_ignored(report.ignored),
        told=describe_difference(report.difference) if report.difference else [],
        max_listed=MAX_LISTED,
    )


def _read(
    store_dir: Path,
) -> tuple[StoreIndex, list[ManifestRow], dict[str, tuple[str, ...]], Difference | None, tuple[Ignored, ...]]:
    """Read what a report is computed from: index, rows by video_id, versions, last difference, ignored files."""
    index = read_index(store_dir)
    rows = {row.video_id: row for row in read_table(store_dir / VIDEOS_NAME)}
    if not index.complete:  # the manifest is from the beginning of the run: what is stored is listed in the shards
        rows = {video_id: _pending(row) if row.status == "stored" else row for video_id, row in rows.items()}
    versions: dict[str, set[str]] = defaultdict(set)
    for shard in index.shards:
        with ShardReader(store_dir / SHARDS_DIR / shard.name, shard.num_bytes) as reader:
            meta = reader.meta
        for name, version in meta.made_with.items():
            versions[name].add(version)
        if not index.complete:
            live = (row_from_plain(dict(plain)) for plain in meta.videos if plain["video_id"] not in shard.superseded)
            rows.update((row.video_id, row) for row in live)
    ordered = [row for _, row in sorted(rows.items())]
    _require_agreement(store_dir, index, ordered)
    made_with = {name: tuple(sorted(found)) for name, found in sorted(versions.items())}
    return index, ordered, made_with, read_difference(store_dir), read_ignored(store_dir / IGNORED_NAME)


def _pending(row: ManifestRow) -> ManifestRow:
    return ManifestRow(video_id=row.video_id, path=row.path, entry=row.entry)


def _require_agreement(store_dir: Path, index: StoreIndex, rows: Iterable[ManifestRow]) -> None:
    """Raise an error if the manifest claims other numbers of records than the index."""
    claimed = dict.fromkeys(SPLITS, 0)
    for row in rows:
        if row.status == "stored" and row.entry is not None and row.entry.split is not None:
            claimed[row.entry.split] += row.num_records
    if claimed != index.num_records:
        raise StoreCorrupt(
            f"{store_dir / VIDEOS_NAME}: got records {claimed}, expected {index.num_records} as in the index; "
            "run the preprocessing again"
        )
