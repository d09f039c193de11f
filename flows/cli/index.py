"""`faceshards index`: what lies in a folder, how it would be split, and what the splits would share."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.datasets import DATASETS
from manifests.entry import SPLITS
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manifests.row import ManifestRow

MAX_REJECTIONS_SHOWN = 20  # the manifest has them all
EMPTY_SPLITS = "No video in {}: whole leakage groups come nearest to the ratios that way."


def add_index(commands: Any) -> argparse.ArgumentParser:
    """Add the command to the command line and return its parser."""
    index: argparse.ArgumentParser = commands.add_parser(
        "index", help="say what a folder holds, split it, and report what the splits share"
    )
    index.add_argument("root", type=Path, metavar="ROOT", help="the dataset's folder")
    index.add_argument("--layout", choices=list(DATASETS), help="how it is laid out; found by looking by default")
    add_split_options(index)
    index.add_argument("--names-only", action="store_true", help="do not open the files: names and lists alone")
    index.add_argument("--out", type=Path, metavar="FILE.parquet", help="where to write the manifest")
    index.add_argument("--report", type=Path, metavar="FILE.json", help="where to write the leakage report")
    return index


def add_split_options(command: argparse.ArgumentParser) -> None:
    """Add the options that decide which videos go where."""
    command.add_argument(
        "--test", type=Path, action="append", metavar="ROOT2", help="another dataset, for testing only; may be repeated"
    )
    command.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one setting, such as split.policy=official"
    )


def run_index(options: argparse.Namespace, out: Console) -> bool:
    """Run the command; return whether there are videos, and their split keeps its policy's promise."""
    from flows.config.preprocess import AUTO, load_index_config
    from flows.run.bars import probing_bar
    from flows.run.shards import with_splits
    from flows.run.sources import index_sources, survey_sources
    from manifests.leakage.audit import audit, broken_promises, describe
    from manifests.splits.policies import POLICIES_WITH_RATIOS
    from manifests.videos_table import write_table

    for option in ("out", "report"):
        _require_place(option, getattr(options, option))
    base: dict[str, Any] = {"dataset": {"root": options.root} | ({"name": options.layout} if options.layout else {})}
    base |= {"test_datasets": [{"root": root} for root in options.test]} if options.test else {}
    config = load_index_config(options.config, options.set, base)
    sources = survey_sources(config.dataset, config.test_datasets)
    for settings, source in zip((config.dataset, *config.test_datasets), sources, strict=True):
        if settings.name == AUTO:
            out.print(str(source), soft_wrap=True, highlight=False)
    with probing_bar() as on_video:
        indexed = index_sources(sources, probing=not options.names_only, on_video=on_video)
    split = config.split.model_copy(update={"allow_leakage": True})  # what breaks a promise is shown, nothing is stored
    rows = with_splits(indexed.rows, split, test_datasets=indexed.test_datasets)
    report = audit(row.entry for row in rows if row.entry is not None and row.status != "rejected")
    broken = broken_promises(report, config.split.policy)
    wanted = config.split.ratios if config.split.policy in POLICIES_WITH_RATIOS else None
    out.print(_table(rows, wanted, indexed.test_datasets))
    _show_rejections(rows, out)
    empty = [split for split, want in zip(SPLITS, wanted or (), strict=False) if want and not report.num_videos[split]]
    if empty and any(report.num_videos.values()):
        out.print(EMPTY_SPLITS.format(" and ".join(empty)), soft_wrap=True, highlight=False)
    for line in (*describe(report), *broken):
        out.print(line, soft_wrap=True, highlight=False)
    if options.out is not None:
        write_table(options.out, rows)
        out.print(f"Manifest: {options.out}", soft_wrap=True, highlight=False)
    if options.report is not None:
        options.report.write_text(json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        out.print(f"Leakage report: {options.report}", soft_wrap=True, highlight=False)
    return not broken and any(report.num_videos.values())


def _require_place(option: str, path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"--{option}: got {path}, expected a file in a folder that exists; make the folder first")


def _table(rows: Sequence[ManifestRow], wanted: Sequence[float] | None, test_datasets: Collection[str]) -> Table:
    """Kinds × splits, each with its share of the kind; below, the whole against the shares that were asked for."""
    from rich.table import Table

    from manifests.splits.policies import counts_by_split

    entries = [row.entry for row in rows if row.entry is not None and row.status != "rejected"]
    rejected = sum(row.status == "rejected" for row in rows)
    table = Table("videos", *SPLITS, title=f"{len(rows):,} files, {rejected:,} rejected", title_justify="left")
    for kind, by_split in counts_by_split(entries).items():
        total = by_split.total()
        table.add_row(kind, *(f"{by_split[split]:,} ({by_split[split] / total:.1%})" for split in SPLITS))
    divided = Counter(entry.split for entry in entries if entry.split and entry.dataset not in test_datasets)
    if wanted is not None and divided:
        shares = [divided[split] / divided.total() for split in SPLITS]
        table.add_section()
        table.add_row("share (wanted)", *(f"{got:.1%} ({want:.1%})" for got, want in zip(shares, wanted, strict=True)))
        gaps = (100 * (got - want) for got, want in zip(shares, wanted, strict=True))
        table.add_row("difference, points", *(f"{gap:+.1f}".replace("-", "−") for gap in gaps))
    return table


def _show_rejections(rows: Sequence[ManifestRow], out: Console) -> None:
    rejected = [row for row in rows if row.status == "rejected"]
    for row in rejected[:MAX_REJECTIONS_SHOWN]:
        out.print(f"rejected {row.video_id}: {row.reason}, {row.detail}", soft_wrap=True, highlight=False)
    if len(rejected) > MAX_REJECTIONS_SHOWN:
        more = f"and {len(rejected) - MAX_REJECTIONS_SHOWN:,} more rejected: --out FILE.parquet lists them all"
        out.print(more, highlight=False)
