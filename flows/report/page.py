"""The report of a store: `report.json` for programs, `report.html` for people, summaries for terminal and Prefect.

Everything comes from the store alone (index, `videos.parquet`, the shards' descriptions; the page looks at some crops
too), so `faceshards report OUT` makes it anew. No clock and no path goes in: the same store gives the same bytes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from flows.report.contact_sheet import SheetVideo, contact_sheet
from flows.report.difference import CHANGES, Difference, describe_difference, read_difference
from flows.report.totals import Report, SplitSummary, account
from manifests.entry import SPLITS
from manifests.errors import StoreCorrupt
from manifests.leakage.audit import NEAR_DUPLICATE, counted, describe, sentences_about_test
from manifests.row import ManifestRow
from manifests.videos_table import read_table, row_from_plain
from storage.files.layout import REPORT_HTML_NAME, REPORT_JSON_NAME, SHARDS_DIR, VIDEOS_NAME, write_atomically
from storage.index import StoreIndex, read_index
from storage.pages.environment import page_environment
from storage.pages.markdown import escaped, table
from storage.shard import ShardReader

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Report", "build_report", "rejection_rows", "summary_markdown", "summary_table", "write_report"]

TEMPLATES_DIR = Path(__file__).parent / "templates"
TEMPLATE_NAME = "report.html.j2"
MAX_LISTED = 100  # rows of a list on the page; `report.json` has them all
MAX_ARTIFACT_ROWS = 1000  # of Prefect's table artifact


def build_report(store_dir: Path) -> Report:
    """Return the report of a store, complete or not; memory grows with videos, not with records.

    Raises:
        StoreMissing: there is no store.
        StoreCorrupt: a file of it cannot be read, or its manifest and index do not agree.
    """
    return account(*_read(store_dir))


def write_report(store_dir: Path) -> Report:
    """Write `report.json` and `report.html` into a store, each complete or not at all, and return the report.

    Raises:
        StoreMissing: there is no store.
        StoreCorrupt: a file of it cannot be read, or its manifest and index do not agree.
    """
    index, rows, versions, difference = _read(store_dir)
    report = account(index, rows, versions, difference)
    text = json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"
    page = _page(report, contact_sheet(store_dir, rows, report.kinds))
    write_atomically(store_dir / REPORT_JSON_NAME, text.encode("utf-8"))
    write_atomically(store_dir / REPORT_HTML_NAME, page.encode("utf-8"))
    return report


def summary_table(report: Report) -> Table:
    """Return kinds × splits for the terminal, with the totals above and the rejections below."""
    from rich.table import Table
    from rich.text import Text

    reasons = [f"{count:,} {reason} ({stage})" for stage, reason, count in _counted_rejections(report)]
    table = Table(title=_equation(report), caption=Text("rejected: " + ", ".join(reasons)) if reasons else None)
    table.title_justify = table.caption_justify = "left"
    table.add_column("videos / records", no_wrap=True)
    for name in (*SPLITS, "all"):
        table.add_column(name, justify="right")
    *kinds, whole = _matrix(report)
    for kind, *counts in kinds:
        table.add_row(Text(kind), *counts)
    table.add_section()
    table.add_row(*whole)
    table.add_row("share (wanted)", *(_share_of(split) for split in report.splits), "")
    return table


def summary_markdown(report: Report) -> str:
    """Return totals, kinds × splits and rejections as Markdown, for an artifact in Prefect."""
    lines = [f"**{_equation(report)}**", ""]
    rows = [[escaped(text) for text in row] for row in _matrix(report)]
    rows.append(["share (wanted)", *map(_share_of, report.splits), ""])
    lines += table(("videos / records", *SPLITS, "all"), rows, num_text_columns=1)
    lines += ["", "```", *describe(report.leakage), "```", ""]
    if report.leakage_allowed:
        lines += ["**Leakage was allowed** by `--allow-leakage`."]
    reasons = [(stage, reason, f"{count:,}") for stage, reason, count in _counted_rejections(report)]
    if reasons:
        lines += ["", *table(("rejected in stage", "reason", "videos"), reasons, num_text_columns=2)]
    return "\n".join(lines) + "\n"


def rejection_rows(report: Report, limit: int = MAX_ARTIFACT_ROWS) -> list[dict[str, str]]:
    """Return a row per rejected video, for a table artifact in Prefect; past the limit, one that says how many more."""
    names = ("video_id", "stage", "reason", "detail")
    rows = [{name: getattr(rejection, name) for name in names} for rejection in report.rejections[:limit]]
    num_more = len(report.rejections) - len(rows)
    if num_more:
        rows.append(dict.fromkeys(names, "") | {"detail": f"and {num_more:,} more: see {REPORT_JSON_NAME}"})
    return rows


def _page(report: Report, sheet: Sequence[SheetVideo]) -> str:
    """Return the HTML page; whatever comes from the store is escaped."""
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
        leaking=[
            counted(found) for found in report.leakage.shared if found.num_shared and found.kind != NEAR_DUPLICATE
        ],
        held_out=[sentence for found in report.leakage.held_out for sentence in sentences_about_test(found)],
        rejections=[(stage_and_reason, list(found)) for stage_and_reason, found in by_reason],
        sheet=sheet,
        splits=SPLITS,
        changes=CHANGES,
        told=describe_difference(report.difference) if report.difference else [],
        max_listed=MAX_LISTED,
    )


def _read(store_dir: Path) -> tuple[StoreIndex, list[ManifestRow], dict[str, tuple[str, ...]], Difference | None]:
    """Return the index, the manifest's rows by video_id, the versions that made the shards, and what changed last."""
    index = read_index(store_dir)
    rows = {row.video_id: row for row in read_table(store_dir / VIDEOS_NAME)}
    if not index.complete:  # the manifest is that of the run's beginning: what is stored stands in the shards
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
    return index, ordered, made_with, read_difference(store_dir)


def _pending(row: ManifestRow) -> ManifestRow:
    return ManifestRow(video_id=row.video_id, path=row.path, entry=row.entry)


def _require_agreement(store_dir: Path, index: StoreIndex, rows: Iterable[ManifestRow]) -> None:
    """Refuse to report numbers that contradict each other."""
    claimed = dict.fromkeys(SPLITS, 0)
    for row in rows:
        if row.status == "stored" and row.entry is not None and row.entry.split is not None:
            claimed[row.entry.split] += row.num_records
    if claimed != index.num_records:
        raise StoreCorrupt(
            f"{store_dir / VIDEOS_NAME}: got records {claimed}, expected {index.num_records} as in the index; "
            "run the preprocessing again"
        )


def _equation(report: Report) -> str:
    """Return the account in one line: what was indexed is what became of it."""
    totals = report.totals
    pending = f" + {totals['num_pending']:,} pending" if totals["num_pending"] else ""
    unfinished = "" if report.complete else "; incomplete, run again"
    return (
        f"{totals['num_indexed']:,} indexed = {totals['num_stored']:,} stored + {totals['num_rejected']:,} rejected"
        f"{pending}; {totals['num_records']:,} records{unfinished}"
    )


def _matrix(report: Report) -> Iterator[tuple[str, ...]]:
    """Yield `kind, train, val, test, all` for each kind, and for all kinds together; a cell is `videos / records`."""
    counts = [
        (kind, [(cell.num_videos, cell.num_records) for cell in report.cells if cell.kind == kind])
        for kind in report.kinds
    ]
    for name, by_split in (*counts, ("all", [(split.num_videos, split.num_records) for split in report.splits])):
        whole = sum(videos for videos, _ in by_split), sum(records for _, records in by_split)
        yield name, *(f"{videos:,} / {records:,}" for videos, records in (*by_split, whole))


def _share_of(split: SplitSummary) -> str:
    if split.share is None:
        return "–"
    return f"{split.share:.1%}" + (f" ({split.wanted_share:.1%})" if split.wanted_share is not None else "")


def _counted_rejections(report: Report) -> Iterator[tuple[str, str, int]]:
    """Yield (stage, reason, number of videos)."""
    for stage, by_reason in report.rejection_counts.items():
        for reason, count in by_reason.items():
            yield stage, reason, count
