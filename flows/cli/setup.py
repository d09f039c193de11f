"""The commands about the installation: `weights …`, `presets` and `deploy`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flows.cli.command import Argument, Command, Options, path
from flows.cli.console import complain, say
from manifests.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from tasks.models.weights import WeightFile

MISSING = "missing"


def commands() -> Iterator[Command]:
    """Yield the commands."""
    searched = "folder of weight files, searched before $FACESHARDS_WEIGHTS and torch hub's cache; fetch writes there"
    arguments = (
        Argument(
            "names", "weight files, such as 2dfan4, or training presets (default: all)", nargs="*", metavar="NAME"
        ),
        path("--weights-dir", "DIR", searched),
    )
    actions = (
        Command("fetch", "download missing weight files, and print the path of each", fetch_weights, *arguments),
        Command("list", "list the weight files with their folders, users and licences", list_weights, *arguments),
        Command("verify", "compare weight files with the published SHA-256 digests", verify_weights, *arguments),
    )
    text = "fetch, list or verify the weight files of networks"
    yield Command("weights", text, commands=actions, metavar="ACTION")
    yield Command("presets", "list the presets of preprocess and of train, with their sources", presets)
    yield Command("deploy", "register the deployments of prefect.yaml with a Prefect server", deploy)


def fetch_weights(options: Options) -> int:
    """Download missing weight files, and print where each file is.

    Raises:
        ConfigError: no weight file has that name.
    """
    from flows.run.bars import bytes_bar, shown
    from manifests.errors import StageMissing
    from tasks.models.weights import fetch, find

    status = EXIT_OK
    for weights in _chosen(options.names):
        if find(weights.name, options.weights_dir) is None:
            complain(f"{weights.name}: {weights.size} from {weights.url}; licence: {weights.licence}")
        try:
            with shown(bytes_bar(transient=True), f"fetching {weights.file_name}", weights.num_bytes) as on_bytes:
                path = fetch(weights.name, options.weights_dir, on_bytes)
        except StageMissing as missing:
            complain("failed:", error=missing)
            status = EXIT_FAILED
        else:
            say(f"{weights.name}: {path}")
    return status


def list_weights(options: Options) -> int:
    """Print the weight files and where each one is.

    Raises:
        ConfigError: no weight file has that name.
    """
    from rich.table import Table

    from tasks.models.weights import find, search_dirs

    table = Table("name", "file", "MB", "where", "used by", "licence", show_lines=True)
    for column in table.columns:
        column.overflow = "fold"  # a path that is cut off cannot be copied
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for weights in _chosen(options.names):
        path = find(weights.name, options.weights_dir)
        size = f"{path.stat().st_size / 1e6:,.1f}" if path else weights.size.removesuffix(" MB")
        where = str(path.parent) if path else MISSING
        table.add_row(weights.name, weights.file_name, size, where, weights.used_by, weights.licence)
    say(table)
    say("Looked in, in this order: " + ", ".join(str(folder) for folder in search_dirs(options.weights_dir)))
    return EXIT_OK


def verify_weights(options: Options) -> int:
    """Compare each weight file with the SHA-256 of the published one.

    Raises:
        ConfigError: no weight file has that name.
        OSError: a file cannot be read.
    """
    from tasks.models.weights import find, verify

    status = EXIT_OK
    for weights in _chosen(options.names):
        path = find(weights.name, options.weights_dir)
        fault = verify(path, weights.name) if path else None
        verdict = MISSING if path is None else f"differs: {fault}" if fault else "ok"
        say(f"{weights.name}: {verdict}" + (f" ({path})" if path else ""))
        status = status if verdict == "ok" else EXIT_FAILED
    return status


def _chosen(names: Sequence[str]) -> list[WeightFile]:
    """Return the named weight files, each once, or all of them; a recipe for training stands for its backbone.

    Raises:
        ConfigError: no weight file has that name.
    """
    from flows.config.presets import TRAINING_PRESETS_DIR, load_preset, preset_names
    from tasks.models.weights import WEIGHTS, weight_file

    recipes = {name: load_preset(name, TRAINING_PRESETS_DIR).weights for name in preset_names(TRAINING_PRESETS_DIR)}
    return [weight_file(name) for name in dict.fromkeys(recipes.get(name) or name for name in names or WEIGHTS)]


def presets(_options: Options) -> int:
    """Print the presets."""
    from rich.table import Table

    from flows.config.presets import PRESETS_DIR, TRAINING_PRESETS_DIR, load_preset, preset_names

    table = Table("preset", "what it makes, its source, the records to expect", show_lines=True)
    for command, folder in (("preprocess", PRESETS_DIR), ("train", TRAINING_PRESETS_DIR)):
        for preset in (load_preset(name, folder) for name in preset_names(folder)):
            notes = {"Source": preset.source, "Expected": preset.expected, "Pretrained weights": preset.weights}
            lines = (f"{what}: {note}" for what, note in notes.items() if note)
            table.add_row(preset.name, "\n".join((f"{command}: {preset.about}", *lines)))
    say(table)
    return EXIT_OK


def deploy(_options: Options) -> int:
    """Register the deployments."""
    from flows.server.deploy import CHECKOUT, default_folder
    from flows.server.deploy import deploy as deploy_all

    names = deploy_all(folder := default_folder())
    say(
        f"Registered {', '.join(names)}; their runs work in {folder}. Run one with `prefect deployment run {names[0]}`."
    )
    if folder != CHECKOUT:
        say(
            "Prefect knows such short names where PREFECT_PLUGINS_ENABLED=true is set, and in a checkout of faceshards."
        )
    return EXIT_OK
