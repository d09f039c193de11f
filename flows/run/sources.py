"""The datasets of a run: which layout each folder has, and one manifest of them all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.config.preprocess import AUTO, DatasetSettings, HeldOutSettings
from manifests.datasets import DATASETS
from manifests.datasets.dataset import Dataset
from manifests.datasets.recognise import recognise_layout
from manifests.entry import VideoEntry
from manifests.errors import ConfigError
from manifests.indexing import index_dataset
from manifests.row import ManifestRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """One manifest of every dataset of a run."""

    rows: tuple[ManifestRow, ...]
    """Every file found, ordered by video_id; none has a split but from an earlier run."""

    roots: dict[str, Path]
    """`VideoEntry.dataset` → its folder."""

    test_datasets: tuple[str, ...]
    """Those that are for testing only, sorted."""


def layout_of(settings: DatasetSettings) -> tuple[Dataset, str]:
    """Return the layout that the settings name, or the one that the folder has; and why it is this one.

    Raises:
        DatasetError: it is to be found, and none fits, or more than one.
    """
    if settings.name != AUTO:
        return DATASETS[settings.name], "as named"
    found = recognise_layout(settings.root)
    return found.dataset, f"found {found.why}"


def index_sources(
    main: DatasetSettings,
    held_out: tuple[HeldOutSettings, ...] = (),
    *,
    probing: bool = True,
    known: Mapping[str, VideoEntry] | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> Indexed:
    """Find the videos of all datasets, and probe them; what an earlier run has measured is not measured again.

    Args:
        main: the dataset that is split.
        held_out: datasets that are for testing only.
        probing: open the files; without it, names and lists are all that is known.
        known: entries of an earlier run by video_id.
        on_video: called with (videos probed, videos to probe) after each, dataset by dataset.

    Raises:
        DatasetError: a folder does not hold its dataset.
        ConfigError: two folders hold the same dataset.
    """
    rows: list[ManifestRow] = []
    roots: dict[str, Path] = {}
    for settings in (main, *held_out):
        layout, why = layout_of(settings)
        if probing:  # a look at the names comes before every run, and need not be told twice
            logger.info("%s: %s (%s)", settings.root, layout.title, why)
        found = index_dataset(
            layout,
            settings.root,
            manipulations=settings.manipulations,
            compressions=settings.compressions,
            only_listed=isinstance(settings, HeldOutSettings) and settings.only_listed,
            probing=probing,
            known=known,
            on_video=on_video,
        )
        datasets = {row.entry.dataset for row in found if row.entry is not None}
        for dataset in datasets:
            if dataset in roots:
                raise ConfigError(
                    f"datasets: got {dataset} in {roots[dataset]} and in {settings.root}, expected each once; "
                    "put the folders together, or make two stores"
                )
            roots[dataset] = settings.root
        rows += found if settings is main else [_told_apart(row, layout.name, datasets) for row in found]
    main_datasets = {row.entry.dataset for row in rows if row.entry and roots[row.entry.dataset] == main.root}
    return Indexed(
        rows=tuple(sorted(rows, key=lambda row: row.video_id)),
        roots=roots,
        test_datasets=tuple(sorted(roots.keys() - main_datasets)),
    )


def require_apart(indexed: Indexed, earlier: Iterable[str]) -> tuple[str, ...]:
    """Return the datasets that are for testing only in a store, this run's and those of earlier runs.

    Raises:
        ConfigError: one of the latter is now to be trained on.
    """
    divided = indexed.roots.keys() - set(indexed.test_datasets)
    both = sorted(divided & set(earlier))
    if both:
        raise ConfigError(
            f"dataset: got {', '.join(both)}, which this store keeps for testing only, expected another one; "
            "process into a new folder, or give it with --test"
        )
    return tuple(sorted({*indexed.test_datasets, *earlier}))


def _told_apart(row: ManifestRow, layout: str, datasets: set[str]) -> ManifestRow:
    """Return the row of a file without a video_id under a name of its own: two folders may have a path in common."""
    if row.entry is not None or row.video_id.partition("/")[0] in datasets:
        return row
    return replace(row, video_id=f"{layout}:{row.video_id}")
