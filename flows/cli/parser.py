"""The command line: `faceshards …` or `python -m flows …`.

Exit status: 0 done, 1 finished without what was asked for (no video could be stored, a flow failed), 2 a person's
mistake or a store that cannot be used, 130 interrupted.

Nothing heavy is imported before it is known what to do: `--help` needs neither torch nor Prefect.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.download import add_download
from flows.cli.guard import require_own_packages
from flows.cli.index import EMPTY_SPLITS, add_index, add_split_options, run_index
from flows.cli.mirror import add_mirror
from flows.cli.training import add_training
from flows.cli.versions import add_versions
from flows.cli.weights import add_weights
from manifests.datasets import DATASETS
from manifests.errors import FaceshardsError, NothingStored, StoreError, UserError
from storage.files.layout import REPORT_HTML_NAME

if TYPE_CHECKING:
    from rich.console import Console

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

# Nothing may go out to a network that the user did not name. Prefect's client obeys the first, its server the second.
QUIET_PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # What goes wrong is said once, by us; Prefect would print each failure with a traceback of its own.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    # The embedded server, which is ended in the midst of what it is doing, would print tracebacks of that.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: words of the command line, without the program's name.
    """
    options = _parser().parse_args(arguments)
    handler = StderrHandler(logging.INFO if options.verbose else logging.WARNING)
    logging.basicConfig(format="%(message)s", handlers=[handler], force=True)
    for name, value in QUIET_PREFECT.items():
        os.environ.setdefault(name, value)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        require_own_packages()
        return run(options)
    except (UserError, StoreError) as error:
        _complain("error:", error)
        return EXIT_USAGE
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except (FaceshardsError, OSError) as error:
        _complain("failed:", error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        _stderr().print("interrupted; run the same command again to go on")
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    """The whole command line; choices come from the registries."""
    parser = argparse.ArgumentParser(prog="faceshards", description="Deepfake datasets to training-ready data.")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    preprocess = commands.add_parser("preprocess", help="dataset on disk → store of face crops")
    layouts = ["auto", *DATASETS]
    preprocess.add_argument(
        "dataset", choices=layouts, metavar="LAYOUT", help=f"how ROOT is laid out: {', '.join(layouts)}"
    )
    preprocess.add_argument("root", type=Path, metavar="ROOT", help="the dataset's folder")
    preprocess.add_argument("--out", type=Path, required=True, metavar="OUT", help="the store's folder")
    add_split_options(preprocess)
    preprocess.add_argument(
        "--allow-leakage", action="store_true", help="store a split that breaks its promise; the store will say so"
    )
    preprocess.add_argument("--preset", metavar="NAME", help="settings of a published preprocessing: see `presets`")
    preprocess.add_argument(
        "--weights-dir", type=Path, metavar="DIR", help="folder with weight files, as for the command `weights`"
    )
    preprocess.add_argument("--reprocess", action="store_true", help="make the store anew with these settings")
    preprocess.set_defaults(run=_preprocess)

    add_index(commands).set_defaults(run=_index)
    add_download(commands)

    add_training(commands)
    add_weights(commands)
    commands.add_parser("presets", help="settings by name, for --preset of preprocess and of train").set_defaults(
        run=_presets
    )

    sample = commands.add_parser("sample", help="make a miniature dataset from a public-domain portrait")
    sample.add_argument("root", type=Path, metavar="ROOT", help="a new folder")
    sample.add_argument("--layout", default="ffpp", help="ffpp or celeb_df (default: ffpp)")
    sample.add_argument("--pairs", type=int, default=20, help="target–source pairs (default: 20)")
    sample.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        default=(2.0, 4.0),
        metavar=("MIN", "MAX"),
        help="length of videos (default: 2 4)",
    )
    sample.add_argument("--seed", type=int, default=0, help="which of many such datasets (default: 0)")
    sample.set_defaults(run=_sample)

    add_versions(commands)
    add_mirror(commands)

    report = commands.add_parser("report", help="write report.json and report.html of a store anew")
    report.add_argument("out", type=Path, metavar="OUT", help="the store's folder")
    report.set_defaults(run=_report)

    deploy = commands.add_parser("deploy", help="register the deployments of prefect.yaml with a Prefect server")
    deploy.set_defaults(run=_deploy)
    return parser


class StderrHandler(logging.Handler):
    """Writes to what is stderr at the moment: while a progress bar is shown, that puts messages above it.

    Public, because Prefect takes over the root logger from handlers whose name begins with an underscore.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(f"{self.format(record)}\n")


def _preprocess(options: argparse.Namespace) -> int:
    from flows.config.preprocess import load_config
    from flows.run.preflight import preflight, sources_read

    base: dict[str, Any] = {"dataset": {"name": options.dataset, "root": options.root}, "out": options.out}
    if options.test:
        base["test_datasets"] = [{"root": root} for root in options.test]
    if options.allow_leakage:
        base["split"] = {"allow_leakage": True}
    base |= {"reprocess": True} if options.reprocess else {}
    base |= {"weights_dir": options.weights_dir} if options.weights_dir else {}
    config = load_config(options.config, options.set, base, options.preset)
    prepared = preflight(config)  # before Prefect's server starts, so that mistakes are reported at once

    with _stderr().status("starting Prefect"):
        from flows.server.embedded import start_embedded_server

        start_embedded_server()
        from flows.preprocess import preprocess_ffpp
        from flows.report.page import read_report
        from flows.report.text import describe_difference, summary_table
        from manifests.leakage.audit import describe
        from tasks.workers.interrupts import interrupts_remembered
    out, num_changed = _stdout(), 0
    try:
        with interrupts_remembered(), sources_read(prepared.sources):
            done = preprocess_ffpp(config)
        num_changed = done.get("videos_changed", 0)
        if done["videos_processed"] == num_changed == 0:
            out.print("Nothing to do: every video is stored or rejected already.")
    except NothingStored as error:
        _complain("failed:", error)
    report = read_report(config.out)
    out.print(summary_table(report))
    changes = describe_difference(report.difference) if report.difference and num_changed else []
    for line in (*describe(report.leakage), *changes):
        out.print(line, soft_wrap=True, highlight=False)
    out.print(f"Store:  {config.out}\nReport: {config.out / REPORT_HTML_NAME}", soft_wrap=True, highlight=False)
    empty = [split.split for split in report.splits if split.wanted_share and not split.num_videos]
    if report.num_stored and empty:
        out.print(EMPTY_SPLITS.format(" and ".join(empty)), soft_wrap=True, highlight=False)
    return EXIT_OK if report.num_stored else EXIT_FAILED


def _index(options: argparse.Namespace) -> int:
    return EXIT_OK if run_index(options, _stdout()) else EXIT_FAILED


def _presets(_options: argparse.Namespace) -> int:
    from rich.table import Table

    from flows.config.presets import load_preset, preset_names

    table = Table("preset", "what it makes, whose it is, what comes of it", show_lines=True)
    for preset in map(load_preset, preset_names()):
        table.add_row(
            preset.name, "\n".join((preset.about, f"Source: {preset.source}", f"Expected: {preset.expected}"))
        )
    _stdout().print(table)
    return EXIT_OK


def _sample(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from manifests.miniature import write_miniature

    with Progress(console=_stderr(), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("making videos", total=None)
        summary = write_miniature(
            options.root,
            layout=options.layout,
            num_pairs=options.pairs,
            seconds=tuple(options.seconds),
            seed=options.seed,
            on_video=lambda _: progress.advance(bar),
        )
    done = "made" if summary.num_written else "already complete"
    _stdout().print(
        f"{options.root}: {summary.num_videos} videos, {summary.num_masks} masks, "
        f"{summary.num_bytes / 1e6:.1f} MB, {done}",
        soft_wrap=True,
        highlight=False,
    )
    return EXIT_OK


def _report(options: argparse.Namespace) -> int:
    from flows.report.page import write_report
    from flows.report.text import summary_table

    out = _stdout()
    out.print(summary_table(write_report(options.out)))
    out.print(f"Report: {options.out / REPORT_HTML_NAME}", soft_wrap=True, highlight=False)
    return EXIT_OK


def _deploy(_options: argparse.Namespace) -> int:
    from flows.server.deploy import deploy

    names = deploy()
    _stdout().print(f"Registered {', '.join(names)}. Run one with `prefect deployment run {names[0]}`.", soft_wrap=True)
    return EXIT_OK


def _stdout() -> Console:
    from flows.cli.console import stdout  # rich takes longer to load than `--help` may take

    return stdout()


def _stderr() -> Console:
    from flows.cli.console import stderr

    return stderr()


def _complain(kind: str, error: Exception) -> None:
    """Print one message on stderr, its first word in red."""
    from rich.text import Text

    _stderr().print(Text.assemble((kind, "red"), f" {error}"), soft_wrap=True)
