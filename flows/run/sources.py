"""The datasets of a run: the layout of each folder, its videos by name, and one manifest of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.config.preprocess import AUTO, DatasetSettings, HeldOutSettings
from manifests.datasets import DATASETS
from manifests.datasets.ignored import Ignored
from manifests.datasets.recognise import NAMING, NAMING_HELD_OUT, recognise_layout
from manifests.entry import MINIATURE, VideoEntry
from manifests.errors import ConfigError
from manifests.indexing import Survey, index_dataset, is_miniature, survey_dataset
from manifests.row import ManifestRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """One manifest of every dataset of a run."""

    rows: tuple[ManifestRow, ...]
    """Every file found, ordered by video_id; only videos of an earlier run have a split."""

    roots: dict[str, Path]
    """`VideoEntry.dataset` → its folder."""

    test_datasets: tuple[str, ...]
    """Datasets that are for testing only, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One dataset of a run, known by the names of its files."""

    survey: Survey
    """Its videos; no file has been opened."""

    why: str
    """Reason why it is read as this layout, for a person."""

    is_held_out: bool
    """Whether it is for testing only."""

    def __str__(self) -> str:
        """Return folder and layout, for a person."""
        what = "a miniature of " if is_miniature(self.survey.root) else ""
        return f"{self.survey.root}: {what}{self.survey.dataset.title} ({self.why})"


def survey_sources(main: DatasetSettings, held_out: Iterable[HeldOutSettings] = ()) -> tuple[Source, ...]:
    """Read the names in the folders of all datasets, once for all steps of a run.

    Args:
        main: the dataset that is split.
        held_out: datasets that are for testing only.

    Raises:
        DatasetError: a folder does not hold its dataset; or its layout is `auto`, and none fits, or more than one.
    """
    return tuple(_survey(settings) for settings in (main, *held_out))


def _survey(settings: DatasetSettings) -> Source:
    is_held_out = isinstance(settings, HeldOutSettings)
    if settings.name == AUTO:
        found = recognise_layout(settings.root, NAMING_HELD_OUT if is_held_out else NAMING)
        dataset, why = found.dataset, f"found {found.why}"
    else:
        dataset, why = DATASETS[settings.name], "as named"
    survey = survey_dataset(
        dataset,
        settings.root,
        manipulations=settings.manipulations,
        compressions=settings.compressions,
        only_listed=isinstance(settings, HeldOutSettings) and settings.only_listed,
    )
    return Source(survey=survey, why=why, is_held_out=is_held_out)


def ignored_in(sources: Iterable[Source]) -> list[Ignored]:
    """Return the ignored files of all datasets; in one for testing, paths get the layout as prefix."""
    return [
        replace(item, path=f"{source.survey.dataset.name}:{item.path}") if source.is_held_out else item
        for source in sources
        for item in source.survey.ignored
    ]


def index_sources(
    sources: Iterable[Source],
    *,
    probing: bool = True,
    known: Mapping[str, VideoEntry] | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> Indexed:
    """Return one manifest of all datasets; files that an earlier run has measured are not measured again.

    Args:
        sources: what `survey_sources` returned.
        probing: whether the files are opened; otherwise only names and lists are known.
        known: entries of an earlier run by video_id.
        on_video: called with (videos probed, videos to probe) after each, dataset by dataset.

    Raises:
        DatasetError: a dataset's own metadata cannot be read.
        ConfigError: two folders hold the same dataset.
    """
    rows: list[ManifestRow] = []
    roots: dict[str, Path] = {}
    test_datasets: set[str] = set()
    for source in sources:
        root = source.survey.root
        found = index_dataset(source.survey, probing=probing, known=known, on_video=on_video)
        datasets = {row.entry.dataset for row in found if row.entry is not None}
        for dataset in datasets:
            if dataset in roots:
                raise ConfigError(
                    f"datasets: got {dataset} in {roots[dataset]} and in {root}, expected each once; "
                    "put the folders together, or make two stores"
                )
            roots[dataset] = root
        if source.is_held_out:
            test_datasets |= datasets
            found = [_with_layout_prefix(row, source.survey.dataset.name, datasets) for row in found]
        rows += found
    return Indexed(
        rows=tuple(sorted(rows, key=lambda row: row.video_id)),
        roots=roots,
        test_datasets=tuple(sorted(test_datasets)),
    )


def require_apart(indexed: Indexed, earlier: Iterable[str]) -> tuple[str, ...]:
    """Return the datasets that are for testing only in a store, this run's and those of earlier runs.

    Raises:
        ConfigError: a dataset that an earlier run kept for testing only is now the dataset to train on.
    """
    divided = indexed.roots.keys() - set(indexed.test_datasets)
    both = sorted(divided & set(earlier))
    if both:
        raise ConfigError(
            f"dataset: got {', '.join(both)}, which this store keeps for testing only, expected another one; "
            "process into a new folder, or give it with --test"
        )
    return tuple(sorted({*indexed.test_datasets, *earlier}))


def _with_layout_prefix(row: ManifestRow, layout: str, datasets: set[str]) -> ManifestRow:
    """Return the row; without a video_id, its path gets the layout as prefix, since two folders may share paths."""
    if row.entry is not None or row.video_id.partition("/")[0] in {name.removeprefix(MINIATURE) for name in datasets}:
        return row
    return replace(row, video_id=f"{layout}:{row.video_id}")
