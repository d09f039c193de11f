"""Report and difference as text: tables for the terminal, lines for logs, Markdown for Prefect's artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.report.difference import CHANGES, Difference
from flows.report.totals import Report, SplitSummary
from manifests.datasets.ignored import describe as describe_ignored
from manifests.entry import SPLITS
from manifests.leakage.text import describe
from storage.files.layout import REPORT_JSON_NAME
from storage.pages.markdown import escaped, table

if TYPE_CHECKING:
    from rich.table import Table

MAX_ARTIFACT_ROWS = 1000  # rejected videos in Prefect's table artifact


def summary_table(report: Report) -> Table:
    """Return kinds × splits for the terminal, with the totals above and the rejections below."""
    from rich.table import Table
    from rich.text import Text

    reasons = [f"{count:,} {reason} ({stage})" for stage, reason, count in _rejection_counts(report)]
    below = [f"rejected: {', '.join(reasons)}"] if reasons else []
    below += [_again_in_words(report)] if report.found_again else []
    found = Table(title=_equation(report), caption=Text("\n".join(below)) if below else None)
    found.title_justify = found.caption_justify = "left"
    found.add_column("videos / records", no_wrap=True)
    for name in (*SPLITS, "all"):
        found.add_column(name, justify="right")
    *kinds, whole = _kinds_by_split(report)
    for kind, *counts in kinds:
        found.add_row(Text(kind), *counts)
    found.add_section()
    found.add_row(*whole)
    found.add_row("share (wanted)", *map(_share, report.splits), "")
    return found


def summary_markdown(report: Report) -> str:
    """Return totals, kinds × splits, leakage and rejections as Markdown."""
    rows = [[escaped(text) for text in row] for row in _kinds_by_split(report)]
    rows.append(["share (wanted)", *map(_share, report.splits), ""])
    lines = [f"**{_equation(report)}**", ""]
    lines += table(("videos / records", *SPLITS, "all"), "lr", rows)
    lines += ["", "```", *describe(report.leakage), "```", ""]
    if report.leakage_allowed:
        lines += ["**Leakage was allowed** by `preprocess --allow-leakage`."]
    if report.found_again:
        lines += [_again_in_words(report), ""]
    reasons = [(stage, reason, f"{count:,}") for stage, reason, count in _rejection_counts(report)]
    lines += ["", *(f"- ignored {escaped(line)}" for line in describe_ignored(report.ignored))]
    if reasons:
        lines += ["", *table(("rejected in stage", "reason", "videos"), "llr", reasons)]
    return "\n".join(lines) + "\n"


def rejection_rows(report: Report, limit: int = MAX_ARTIFACT_ROWS) -> list[dict[str, str]]:
    """Return a row per rejected video for a table artifact; beyond the limit, one row counts the rest."""
    names = ("video_id", "stage", "reason", "detail")
    rows = [{name: getattr(rejection, name) for name in names} for rejection in report.rejections[:limit]]
    num_more = len(report.rejections) - len(rows)
    if num_more:
        rows.append(dict.fromkeys(names, "") | {"detail": f"and {num_more:,} more: see {REPORT_JSON_NAME}"})
    return rows


def in_a_line(difference: Difference | None) -> str:
    """Return the number of videos of each change, such as `2 added, 1 changed on disk`."""
    if difference is None:
        return "first version"
    return ", ".join(f"{count:,} {CHANGES[change]}" for change, count in difference.totals.items()) or "no changes"


def describe_difference(difference: Difference) -> list[str]:
    """Return a difference in lines: numbers of videos, changed settings, and videos that the run kept unchanged."""
    lines = [f"Since version {difference.since}: {in_a_line(difference)}."]
    if difference.settings:
        lines.append(f"Settings: {'; '.join(difference.settings)}.")
    if difference.num_vanished:
        lines.append(vanished_in_words(difference.num_vanished))
    lines += [other_code_in_words(code, count) for code, count in difference.other_code.items()]
    return lines


def vanished_in_words(num_vanished: int) -> str:
    """Return a line about stored videos whose files are no longer on disk."""
    return f"Stored videos no longer on disk: {num_vanished:,}. Their records are kept; vanished=drop removes them."


def other_code_in_words(code: str, num_videos: int) -> str:
    """Return a line about stored videos that were made with another version of code or models than the run's."""
    return f"Stored videos made with {code}: {num_videos:,}. They are kept; remake=code processes them again."


def difference_markdown(difference: Difference) -> str:
    """Return a difference as Markdown: its lines, changes by kind and split, and a list of videos."""
    rows = [[change, escaped(kind), *(f"{count:,}" for count in counts)] for change, kind, counts in difference.rows()]
    lines = [f"{escaped(line)}  " for line in describe_difference(difference)]
    lines += ["", *table(("change", "kind", *SPLITS, "no split"), "llr", rows)]
    lines += ["", *(f"- {CHANGES[item.change]}: {escaped(item.video_id)} {item.why}" for item in difference.listed)]
    return "\n".join(lines) + "\n"


def _equation(report: Report) -> str:
    """Return the totals as an equation, such as `8 indexed = 5 stored + 3 rejected; 20 records`."""
    totals = report.totals
    pending = f" + {totals['num_pending']:,} pending" if totals["num_pending"] else ""
    unfinished = "" if report.complete else "; incomplete, run again"
    return (
        f"{totals['num_indexed']:,} indexed = {totals['num_stored']:,} stored + {totals['num_rejected']:,} rejected"
        f"{pending}; {totals['num_records']:,} records{unfinished}"
    )


def _kinds_by_split(report: Report) -> Iterator[tuple[str, ...]]:
    """Yield `kind, train, val, test, all` for each kind and for all together; a cell is `videos / records`."""
    counts = [
        (kind, [(cell.num_videos, cell.num_records) for cell in report.cells if cell.kind == kind])
        for kind in report.kinds
    ]
    for name, by_split in (*counts, ("all", [(split.num_videos, split.num_records) for split in report.splits])):
        whole = sum(videos for videos, _ in by_split), sum(records for _, records in by_split)
        yield name, *(f"{videos:,} / {records:,}" for videos, records in (*by_split, whole))


def _share(split: SplitSummary) -> str:
    if split.share is None:
        return "–"
    return f"{split.share:.1%}" + (f" ({split.wanted_share:.1%})" if split.wanted_share is not None else "")


def _again_in_words(report: Report) -> str:
    """Return the share of checked crops in which MTCNN finds a face again, in a line."""
    shares = ", ".join(f"{one.kind} {one.share:.1%} of {one.num_crops:,}" for one in report.found_again)
    return f"crops in which MTCNN finds a face again: {shares}"


def _rejection_counts(report: Report) -> Iterator[tuple[str, str, int]]:
    """Yield (stage, reason, number of videos)."""
    for stage, by_reason in report.rejection_counts.items():
        for reason, count in by_reason.items():
            yield stage, reason, count
