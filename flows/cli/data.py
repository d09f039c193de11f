"""The commands about datasets on disk: `index` and `sample`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.command import CONFIG, TEST_DATASET, Argument, Command, Options, flag, path, setting
from flows.cli.console import complain, say
from flows.cli.preprocess import EMPTY_SPLITS
from manifests.datasets import DATASETS
from manifests.entry import SPLITS
from manifests.errors import EXIT_FAILED, EXIT_OK, ConfigError, DatasetError

if TYPE_CHECKING:
    from rich.table import Table

    from manifests.indexing import Survey
    from manifests.row import ManifestRow

MAX_REJECTIONS_SHOWN = 20  # the manifest has them all


def commands() -> Iterator[Command]:
    """Yield the commands."""
    yield Command(
        "index",
        "recognise a dataset, split it, and report leakage between the splits",
        index,
        path("root", "ROOT", "folder of the dataset"),
        Argument("--layout", "layout of ROOT (default: recognised from its folders)", choices=list(DATASETS)),
        TEST_DATASET,
        CONFIG,
        setting("split.policy=official"),
        flag("--names-only", "use names and lists only; open no file but those whose names do not tell what they are"),
        path("--out", "FILE.parquet", "write the manifest to this file; as text if it ends in .csv or .tsv"),
        path("--report", "FILE.json", "write the leakage report and the ignored files to this file"),
    )
    yield Command(
        "sample",
        "make a miniature dataset from a public-domain portrait",
        sample,
        path("root", "ROOT", "new folder for the dataset"),
        Argument("--layout", "ffpp or celeb_df (default: ffpp)", default="ffpp"),
        Argument("--pairs", "number of target–source pairs (default: 20)", type=int, default=20),
        Argument(
            "--seconds",
            "length of the shortest and of the longest video (default: 2 4)",
            type=float,
            nargs=2,
            default=(2.0, 4.0),
            metavar=("MIN", "MAX"),
        ),
        Argument("--seed", "random seed (default: 0)", type=int, default=0),
    )


def index(options: Options) -> int:
    """Index a dataset; return 1 if there is no video, a class is missing, or the split breaks its policy's promise."""
    from flows.config.preprocess import AUTO, load_index_config
    from flows.run.bars import items_bar, shown
    from flows.run.sources import ignored_in, index_sources, survey_sources
    from flows.run.splitting import with_splits
    from manifests.datasets.ignored import describe as describe_ignored
    from manifests.leakage.audit import audit
    from manifests.leakage.text import broken_promises, describe
    from manifests.splits.policies import POLICIES_WITH_RATIOS
    from manifests.videos_table import SEPARATORS, write_table

    for option in ("out", "report"):
        _require_place(option, getattr(options, option))
    if options.out is not None and options.out.suffix.lower() not in (".parquet", *SEPARATORS):
        suffixes = ", ".join((".parquet", *SEPARATORS))
        raise ConfigError(f"--out: got {options.out}, expected a name that ends in one of {suffixes}")
    base: dict[str, object] = {"dataset": {"root": options.root} | ({"name": options.layout} if options.layout else {})}
    base |= {"test_datasets": [{"root": root} for root in options.test]} if options.test else {}
    config = load_index_config(options.config, options.set, base)
    sources = survey_sources(config.dataset, config.test_datasets)
    is_missing = _complain_of_missing(source.survey for source in sources)
    for settings, source in zip((config.dataset, *config.test_datasets), sources, strict=True):
        if settings.name == AUTO:
            say(str(source))
    with shown(items_bar("videos"), "probing") as on_video:
        indexed = index_sources(sources, probing=not options.names_only, on_video=on_video)
    split = config.split.model_copy(update={"allow_leakage": True})  # leakage is shown, and no store is written
    rows = with_splits(indexed.rows, split, test_datasets=indexed.test_datasets)
    report = audit(row.entry for row in rows if row.entry is not None and row.status != "rejected")
    broken = broken_promises(report, config.split.policy)
    wanted = config.split.ratios if config.split.policy in POLICIES_WITH_RATIOS else None
    say(_table(rows, wanted, indexed.test_datasets))
    _show_rejections(rows)
    ignored = ignored_in(sources)
    accounts = (source.survey.accounts for source in sources)
    empty = [split for split, want in zip(SPLITS, wanted or (), strict=False) if want and not report.num_videos[split]]
    if empty and any(report.num_videos.values()):
        say(EMPTY_SPLITS.format(" and ".join(empty)))
    for line in (*accounts, *(f"ignored {line}" for line in describe_ignored(ignored)), *describe(report), *broken):
        say(line)
    if options.out is not None:
        write_table(options.out, rows)
        say(f"Manifest: {options.out}")
    if options.report is not None:
        plain = asdict(report) | {"ignored": [asdict(item) for item in ignored]}
        options.report.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"Leakage report: {options.report}")
    return EXIT_OK if any(report.num_videos.values()) and not broken and not is_missing else EXIT_FAILED


def sample(options: Options) -> int:
    """Make the miniature dataset."""
    from flows.run.bars import advancing
    from manifests.miniature import write_miniature

    with advancing("making videos") as on_video:
        summary = write_miniature(
            options.root,
            layout=options.layout,
            num_pairs=options.pairs,
            seconds=tuple(options.seconds),
            seed=options.seed,
            on_video=lambda _: on_video(),
        )
    done = "made" if summary.num_written else "already complete"
    counts = f"{summary.num_videos} videos, {summary.num_masks} masks, {summary.num_bytes / 1e6:.1f} MB"
    say(f"{options.root}: {counts}, {done}")
    return EXIT_OK


def _complain_of_missing(surveys: Iterable[Survey]) -> bool:
    """Print which folders of the datasets have no video; return whether a class is missing for that reason."""
    is_missing = False
    for survey in surveys:
        is_missing |= survey.missing_label is not None
        what = f"no {survey.missing_label} video:" if survey.missing_label else "no video:"
        if survey.without_videos:
            complain(what, error=DatasetError(f"{survey.root}: {'; '.join(survey.without_videos)}"))
    return is_missing


def _require_place(option: str, path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"--{option}: got {path}, expected a file in a folder that exists; make the folder first")


def _table(rows: Sequence[ManifestRow], wanted: Sequence[float] | None, test_datasets: Collection[str]) -> Table:
    """Return a table of videos by kind and split with shares; below, the shares of all videos, and those wanted."""
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


def _show_rejections(rows: Sequence[ManifestRow]) -> None:
    rejected = [row for row in rows if row.status == "rejected"]
    for row in rejected[:MAX_REJECTIONS_SHOWN]:
        say(f"rejected {row.video_id}: {row.reason}, {row.detail}")
    if len(rejected) > MAX_REJECTIONS_SHOWN:
        say(f"and {len(rejected) - MAX_REJECTIONS_SHOWN:,} more rejected: --out FILE.parquet lists them all")
