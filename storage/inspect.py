"""Command line for stores: `python -m storage.inspect OUT` summarises, lists, verifies or exports one.

(Not `python storage/inspect.py`: run by path, the file would hide the standard library's `inspect`.)

Exit status: 0; 1 when `--verify` finds problems; 2 for wrong options or a store that cannot be read.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.entry import REAL, SPLITS
from manifests.errors import ConfigError, StoreError, UserError

# Heavy modules are imported by the view that needs them, so that `--help` answers at once.
if TYPE_CHECKING:
    from rich.table import Table

    from storage.exports.exporter import Exporter
    from storage.store import RecordStore
    from storage.verify import VerifyReport

EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE = 0, 1, 2
WIDTH_OF_A_PIPE = 160  # characters per line of a table that is not shown on a terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verify and options.split is not None:
        parser.error("--split: got it with --verify, expected only one of them; a store is verified as a whole")
    if options.export_as is not None and options.export is None:
        parser.error("--export-as: got it without --export, expected both")
    try:
        status = _run(options)
        sys.stdout.flush()
        return status
    except (StoreError, UserError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except BrokenPipeError:
        # The reader, such as `head`, closed the pipe. Python would report it again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m storage.inspect", description="Summarise, list, verify or export a store of face crops."
    )
    parser.add_argument("store", metavar="OUT", type=Path, help="the store's folder")
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--key", help="show one record; given the start of a key, such as a video_id, list the keys")
    view.add_argument("--verify", action="store_true", help="read every byte, decode every image, and report problems")
    view.add_argument("--export", metavar="DIR", type=Path, help="write images and records.csv into an empty folder")
    parser.add_argument("--export-as", metavar="NAME", help="exporter that --export uses (default: plain_files)")
    parser.add_argument("--split", choices=SPLITS, help="only this split (not with --verify)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.verify:
        return _verify(options.store, options.json)
    exporter = None if options.export is None else _exporter(options.export_as)
    from storage.store import RecordStore

    with RecordStore(options.store, split=options.split, allow_incomplete=True) as store:
        if exporter is not None:
            _export(store, exporter, options.export, options.json)
        elif options.key is not None:
            _show_key(store, options.key, options.json)
        else:
            _show_summary(store, options.json)
    return EXIT_OK


def _verify(store_dir: Path, as_json: bool) -> int:
    from storage.verify import verify_store

    silent = as_json or not sys.stderr.isatty()
    report = verify_store(store_dir) if silent else _verify_with_progress(store_dir)
    if as_json:
        _write_json(asdict(report) | {"ok": report.ok})
    else:
        for problem in report.problems:
            _write(problem)
        read = f"{report.num_records} records and {report.num_images} images in {report.num_shards} shards"
        num_problems = len(report.problems)
        verdict = "no problems" if report.ok else f"{num_problems} problem{'s' if num_problems > 1 else ''}"
        _write(f"{store_dir}: {read}: {verdict}")
    return EXIT_OK if report.ok else EXIT_PROBLEMS


def _verify_with_progress(store_dir: Path) -> VerifyReport:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from storage.verify import verify_store

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("records", total=None)
        return verify_store(store_dir, lambda done, total: bar.update(task, completed=done, total=total))


def _exporter(name: str | None) -> Exporter:
    """Return the exporter of this name.

    Raises:
        ConfigError: no exporter has this name, or it cannot be loaded.
    """
    from storage.exports import DEFAULT_EXPORTER, EXPORTERS

    if name is not None and name not in EXPORTERS:
        raise ConfigError(f"--export-as: got {name!r}, expected one of {', '.join(EXPORTERS)}")
    return EXPORTERS[name or DEFAULT_EXPORTER]()


def _export(store: RecordStore, exporter: Exporter, directory: Path, as_json: bool) -> None:
    num_records = exporter.export(store, directory)
    if as_json:
        _write_json({"directory": str(directory), "num_records": num_records})
    else:
        _write(f"{directory}: {num_records} records")


def _show_key(store: RecordStore, key: str, as_json: bool) -> None:
    """Show the record of this key, or list the keys that begin with it.

    Raises:
        StoreError: there is no such record and no such key.
    """
    keys = store.keys()
    if key in keys:
        fields = _record_fields(store, key)
        if as_json:
            _write_json(fields)
        else:
            for name, value in fields.items():
                _write(f"{name:<16} {_shown(value)}")
        return
    # Keys of a whole video come first, so that `…/01_02` does not list `…/01_020`.
    found = [known for known in keys if known.startswith(f"{key.rstrip('/')}/")]
    found = found or [known for known in keys if known.startswith(key)]
    if not found:
        hint = f"such as {keys[0]!r}" if keys else "but there is no record at all"
        raise StoreError(f"--key: got {key!r}, expected a record's key or the start of one, {hint}")
    if as_json:
        _write_json({"keys": found})
    else:
        for known in found:
            _write(known)


def _record_fields(store: RecordStore, key: str) -> dict[str, object]:
    """Return every field of a record as plain values, images by format and size."""
    import numpy as np

    from storage.format.encoding import ARRAY_DTYPES, SCALAR_TYPES
    from storage.format.images import size_of, suffix_of

    record = store.get(key)
    fields: dict[str, object] = {name: getattr(record, name) for name in SCALAR_TYPES}
    for name in ARRAY_DTYPES:
        array = np.asarray(getattr(record, name))
        fields[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "values": array.tolist()}
    for name, images in (("crops", record.crops_encoded), ("masks", record.masks_encoded)):
        fields[name] = images and [
            {"format": suffix_of(image), "size_px": list(size_of(image)), "num_bytes": len(image)} for image in images
        ]
    return fields


def _shown(value: object) -> str:
    """Return one line for a field."""
    if isinstance(value, dict):
        shape = ", ".join(str(length) for length in value["shape"])
        return f"({shape}) {value['dtype']}  {json.dumps(value['values'])}"
    if isinstance(value, list):
        height, width = value[0]["size_px"]
        sizes = ", ".join(f"{image['num_bytes']:,}" for image in value)
        return f"{len(value)} × {value[0]['format']} of {height}×{width} px, {sizes} bytes"
    return "–" if value is None else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """One split and manipulation in numbers."""

    split: str
    """`train`, `val` or `test`."""

    manipulation: str | None
    """Manipulation; None for real."""

    num_videos: int
    """Videos with records."""

    num_records: int
    """Records that count."""

    num_crops: int
    """Frames of all records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """A store, or one split of it, in numbers."""

    num_shards: int
    """Files."""

    num_bytes: int
    """Size of the shard files."""

    num_records: int
    """Records that count."""

    num_superseded: int
    """Superseded records, which no longer count."""

    num_crops: int
    """Frames of all records that count."""

    bytes_per_crop: int
    """Size of the files divided by the number of crops, rounded; 0 without crops."""


def _show_summary(store: RecordStore, as_json: bool) -> None:
    index, rows = store.index, _summary_rows(store)
    totals = _totals(store, rows)
    if as_json:
        about = (
            *("complete", "format_version", "faceshards_version", "test_datasets", "leakage_allowed"),
            *("crossing_groups", "config_digest", "store_sha256", "config"),
        )
        _write_json(
            {"store": str(store.path), "split": store.split}
            | {name: getattr(index, name) for name in about}
            | {"totals": asdict(totals), "rows": [asdict(row) for row in rows]}
        )
        return
    from rich.console import Console

    superseded = f", {totals.num_superseded:,} superseded" if totals.num_superseded else ""
    lines = {
        "store": str(store.path),
        "complete": "yes" if index.complete else "no: its last run did not finish",
        "format": f"version {index.format_version}, written by faceshards {index.faceshards_version}",
        "configuration": index.config_digest,
        "contents": index.store_sha256,
        "shards": f"{totals.num_shards:,}, {totals.num_bytes:,} bytes",
        "records": f"{totals.num_records:,} with {totals.num_crops:,} crops{superseded}",
        "bytes per crop": f"{totals.bytes_per_crop:,}, with geometry and LMDB's own",
    }
    if index.test_datasets:
        lines["test only"] = ", ".join(index.test_datasets)
    if index.leakage_allowed:
        lines["leakage"] = "allowed by `preprocess --allow-leakage`: report.json lists what the splits share"
    elif index.crossing_groups:
        lines["leakage"] = (
            f"groups that an earlier version split: {len(index.crossing_groups)}; `preprocess --reprocess` splits again"
        )
    for name, line in lines.items():
        _write(f"{name:<16} {line}")
    # Drawn into a buffer: on a closed pipe rich would end the program with an exit status of its own.
    drawn = io.StringIO()
    width = None if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    Console(file=drawn, width=width, force_terminal=sys.stdout.isatty()).print(_summary_table(rows))
    sys.stdout.write(drawn.getvalue())


def _summary_table(rows: Sequence[SummaryRow]) -> Table:
    from rich.table import Table

    table = Table()
    for name in ("split", "manipulation"):
        table.add_column(name)
    for name in ("videos", "records", "crops"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (f"{count:,}" for count in (row.num_videos, row.num_records, row.num_crops))
        table.add_row(row.split, row.manipulation or REAL, *counts)
    return table


def _summary_rows(store: RecordStore) -> tuple[SummaryRow, ...]:
    """Return the rows of the default view: by split, then manipulation; real first."""
    counted: dict[tuple[str, str | None], tuple[set[str], list[int]]] = {}
    for split, manipulation, video_id, num_crops in _identities(store):
        videos, crops = counted.setdefault((split, manipulation), (set(), []))
        videos.add(video_id)
        crops.append(num_crops)
    ordered = sorted(counted, key=lambda found: (SPLITS.index(found[0]), found[1] or ""))
    return tuple(
        SummaryRow(
            split=split,
            manipulation=manipulation,
            num_videos=len(counted[split, manipulation][0]),
            num_records=len(counted[split, manipulation][1]),
            num_crops=sum(counted[split, manipulation][1]),
        )
        for split, manipulation in ordered
    )


def _totals(store: RecordStore, rows: Sequence[SummaryRow]) -> Totals:
    """Return what the rows of the default view are together."""
    shards = [shard for shard in store.index.shards if store.split in (None, shard.split)]
    num_bytes, num_crops = sum(shard.num_bytes for shard in shards), sum(row.num_crops for row in rows)
    return Totals(
        num_shards=len(shards),
        num_bytes=num_bytes,
        num_records=len(store),
        num_superseded=sum(shard.num_superseded_records for shard in shards),
        num_crops=num_crops,
        bytes_per_crop=round(num_bytes / num_crops) if num_crops else 0,
    )


def _identities(store: RecordStore) -> Iterator[tuple[str, str | None, str, int]]:
    """Yield (split, manipulation, video_id, crops) of every record: from `records.parquet`, or else from the shards."""
    from storage.files.layout import RECORDS_NAME
    from storage.format.encoding import read_header
    from storage.records_table import read_rows

    path = store.path / RECORDS_NAME
    # After an interrupted run, the table is that of the run before.
    if path.exists() and store.index.complete:
        for split, *others in read_rows(path, ["split", "manipulation", "video_id", "num_frames"]):
            if store.split in (None, split):
                yield (split, *others)
        return
    for _, key, view in store.views():
        header = read_header(view, key)
        yield header["split"], header["manipulation"], header["video_id"], len(header["crops"])


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _write_json(value: object) -> None:
    _write(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
