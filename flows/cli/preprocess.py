"""The command `preprocess`: a dataset on disk becomes a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.command import CONFIG, TEST_DATASET, Argument, Command, Options, flag, path, setting
from flows.cli.console import complain, end_process, say, working
from manifests.datasets import DATASETS
from manifests.errors import EXIT_FAILED, EXIT_OK, NothingStored
from storage.files.layout import REPORT_HTML_NAME

if TYPE_CHECKING:
    from flows.config.preprocess import PreprocessConfig
    from flows.report.totals import Report

EMPTY_SPLITS = "No video in {}: leakage groups are not divided, and no other assignment comes nearer to the ratios."


def commands() -> Iterator[Command]:
    """Yield the command."""
    layouts = ["auto", *DATASETS]
    yield Command(
        "preprocess",
        "turn a dataset on disk into a store of face crops, or complete the store",
        run,
        Argument("dataset", f"layout of ROOT: {', '.join(layouts)}", choices=layouts, metavar="LAYOUT"),
        path("root", "ROOT", "folder of the dataset"),
        path("--out", "OUT", "folder of the store", required=True),
        TEST_DATASET,
        CONFIG,
        setting("split.policy=official"),
        flag("--allow-leakage", "store a split even if it breaks its policy's promise, and record that in the store"),
        Argument("--preset", "settings of a published preprocessing; `faceshards presets` lists them", metavar="NAME"),
        path("--weights-dir", "DIR", "folder that is searched first for weight files of networks"),
        flag("--reprocess", "recompute a store that was made with other settings"),
    )


def run(options: Options) -> int:
    """Preprocess, and print what the store holds."""
    from flows.config.preprocess import load_config
    from flows.report.page import read_report

    base: dict[str, object] = {"dataset": {"name": options.dataset, "root": options.root}, "out": options.out}
    if options.test:
        base["test_datasets"] = [{"root": root} for root in options.test]
    if options.allow_leakage:
        base["split"] = {"allow_leakage": True}
    base |= {"reprocess": True} if options.reprocess else {}
    base |= {"weights_dir": options.weights_dir} if options.weights_dir else {}
    config = load_config(options.config, options.set, base, options.preset)
    num_changed = 0
    try:
        done = run_flow(config, end_process)
        num_changed = done.get("videos_changed", 0)
        if done["videos_processed"] == num_changed == 0:
            say("Nothing to do: every video is stored or rejected already.")
    except NothingStored as error:
        complain("failed:", error=error)
    report = read_report(config.out)
    _show(report, config.out, has_changed=bool(num_changed))
    return EXIT_OK if report.num_stored else EXIT_FAILED


def run_flow(config: PreprocessConfig, on_loss: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return what the flow returns, run on the configured Prefect server or else on an embedded one.

    To be called from the main thread.

    Args:
        config: settings of the run.
        on_loss: called with a message in a thread when the embedded server ends before the run.

    Raises:
        FaceshardsError: as the flow does; a user's mistake is reported before the server starts.
    """
    from flows.run.preflight import preflight, sources_read

    prepared = preflight(config)
    with working("starting Prefect"):
        from flows.server.embedded import start_embedded_server

        start_embedded_server(on_loss)
        from flows.preprocess import preprocess_ffpp
        from tasks.workers.interrupts import interrupts_remembered
    with interrupts_remembered(), sources_read(prepared.sources):
        return preprocess_ffpp(config)


def _show(report: Report, store_dir: Path, *, has_changed: bool) -> None:
    """Print a store's summary, its leakage, what the run changed, and where store and report are."""
    from flows.report.text import describe_difference, summary_table
    from manifests.datasets.ignored import describe as describe_ignored
    from manifests.leakage.text import describe

    say(summary_table(report))
    changes = describe_difference(report.difference) if report.difference and has_changed else []
    ignored = [f"ignored {line}" for line in describe_ignored(report.ignored)]
    for line in (*ignored, *describe(report.leakage), *changes):
        say(line)
    say(f"Store:  {store_dir}\nReport: {store_dir / REPORT_HTML_NAME}")
    empty = [split.split for split in report.splits if split.wanted_share and not split.num_videos]
    if report.num_stored and empty:
        say(EMPTY_SPLITS.format(" and ".join(empty)))
