"""Index of a dataset folder as manifest rows: first names and lists, then measurements of the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from manifests.datasets.dataset import Claim, Dataset
from manifests.datasets.ignored import IN_PLACE_OF_VIDEOS, Ignored, IgnoredReason, describe, num_files_of
from manifests.datasets.tree_dataset import TreeDataset
from manifests.entry import FAKE, LABEL_AS_INTEGER, MINIATURE, REAL, Label, VideoEntry
from manifests.errors import DatasetError
from manifests.files import open_regular
from manifests.probe.probe import is_unchanged, probe_all
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow

MINIATURE_MARKER = "miniature.json"  # in the root of a miniature: the parameters that it was made with
MAKER = "faceshards sample"  # its `made_by`
MAX_MARKER_BYTES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A dataset's videos as its file names and lists give them; no video has been opened."""

    dataset: Dataset
    """The layout of the folder."""

    root: Path
    """The folder."""

    entries: tuple[VideoEntry, ...]
    """The requested videos, ordered by video_id, not probed."""

    rejected: tuple[Rejected, ...]
    """The files that cannot be placed in the dataset."""

    ignored: tuple[Ignored, ...] = ()
    """All other files below the folder, by folder and reason."""

    num_videos: int = 0
    """Videos on disk, those included that were not requested."""

    without_videos: tuple[str, ...] = ()
    """A line for each folder of the dataset that has other files where its videos should be."""

    missing_label: Label | None = None
    """Label of which there is no video, where such a folder is the reason."""

    @property
    def accounts(self) -> str:
        """Return the number of files on disk as an equation, for a person."""
        counts = num_files_of(self.ignored)
        num_auxiliary = counts.pop(IgnoredReason.AUXILIARY, 0)
        num_rejected, num_ignored = sum(item.num_files_on_disk for item in self.rejected), sum(counts.values())
        return (
            f"{self.num_videos + num_rejected + num_auxiliary + num_ignored:,} files in {self.root} = "
            f"{self.num_videos:,} videos + {num_rejected:,} rejected by name or list "
            f"+ {num_auxiliary:,} beside them (masks, lists, .json) + {num_ignored:,} ignored"
        )

    def require_both_labels(self) -> None:
        """Check that no class is missing because its files are no videos.

        Raises:
            DatasetError: one is.
        """
        if self.missing_label is not None:
            raise DatasetError(
                f"{self.dataset.title} in {self.root}: got no {self.missing_label} video: "
                f"{'; '.join(self.without_videos)}. Expected videos there; move such files away to go without them"
            )


def survey_dataset(
    dataset: Dataset,
    root: Path,
    *,
    manipulations: Collection[str] | None = None,
    compressions: Collection[str] | None = None,
    only_listed: bool = False,
) -> Survey:
    """Return the videos of a dataset's folder, from file names and lists.

    Args:
        dataset: layout of the folder.
        root: the dataset's folder.
        manipulations: only these manipulations, and the real videos of groups with one of them or without any fake.
        compressions: only these compressions.
        only_listed: only the videos of the dataset's own list of test videos.

    Raises:
        DatasetError: the folder does not hold the dataset, or none of the requested videos.
    """
    found = list(dataset.survey(root))
    videos = [item for item in found if isinstance(item, VideoEntry)]
    if is_miniature(root):  # its figures must not pass for those of the real dataset
        videos = [replace(video, dataset=f"{MINIATURE}{video.dataset}") for video in videos]
    entries = _selected(videos, manipulations, compressions)
    if only_listed:
        entries = [entry for entry in entries if entry.listed_split == "test"]
    if videos and not entries:
        listed = ", listed for testing" if only_listed else ""
        raise DatasetError(
            f"{dataset.title} in {root}: got none of the requested videos (manipulations "
            f"{_shown(manipulations)}, compressions {_shown(compressions)}{listed}), expected at least one; "
            "`faceshards index` lists what the folder holds"
        )
    rejected = tuple(item for item in found if isinstance(item, Rejected))
    ignored = tuple(item for item in found if isinstance(item, Ignored))
    without_videos = _without_videos(dataset, root, videos, rejected, ignored)
    labels: set[Label] = {entry.label for entry in videos} if without_videos else {REAL, FAKE}
    return Survey(
        dataset=dataset,
        root=root,
        entries=tuple(entries),
        rejected=rejected,
        ignored=ignored,
        num_videos=len(videos),
        without_videos=without_videos,
        missing_label=next((label for label in LABEL_AS_INTEGER if label not in labels), None),
    )


def is_miniature(root: Path) -> bool:
    """Return whether `faceshards sample` made the dataset in a folder."""
    try:
        with open_regular(root / MINIATURE_MARKER, MAX_MARKER_BYTES) as file:
            marker = json.load(file)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(marker, dict) and marker.get("made_by") == MAKER


def index_dataset(
    survey: Survey,
    *,
    probing: bool = True,
    known: Mapping[str, VideoEntry] | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> list[ManifestRow]:
    """Return a `pending` row for each usable video and a `rejected` one for each other file, ordered by video_id.

    Args:
        survey: the dataset's videos by their names.
        probing: whether to open the files; otherwise the rows have no measurements.
        known: entries of an earlier run by video_id; unchanged files are not probed again, and all keep their split.
        on_video: called after each video with (videos probed, videos to probe).

    Raises:
        DatasetError: the dataset's own metadata cannot be read.
    """
    known = known or {}
    rows = [_row(item) for item in survey.rejected]
    to_probe: list[VideoEntry] = []
    for entry in survey.entries:
        earlier = known.get(entry.video_id)
        if earlier is not None and earlier.is_probed and is_unchanged(survey.root, entry, earlier):
            rows.append(_row(_identified_anew(earlier, entry)))
        else:
            to_probe.append(replace(entry, split=earlier.split if earlier else None))
    if not probing:
        rows += [_row(entry) for entry in to_probe]
        return sorted(rows, key=lambda row: row.video_id)
    for number, (entry, probed) in enumerate(zip(to_probe, probe_all(survey.root, to_probe), strict=True), start=1):
        rows.append(_row(entry).as_rejected(probed) if isinstance(probed, Rejected) else _row(probed))
        if on_video is not None:
            on_video(number, len(to_probe))
    claims = survey.dataset.claims(survey.root)
    return sorted((_agreeing(row, claims.get(row.video_id)) for row in rows), key=lambda row: row.video_id)


def _identified_anew(earlier: VideoEntry, found: VideoEntry) -> VideoEntry:
    """Return an earlier entry's measurements with the identity that names and lists give now."""
    return replace(
        earlier,
        dataset=found.dataset,
        target_id=found.target_id,
        target_identity=found.target_identity,
        source_id=found.source_id,
        group_id=found.group_id,
        listed_split=found.listed_split,
    )


def _agreeing(row: ManifestRow, claim: Claim | None) -> ManifestRow:
    """Return the row; if the dataset's own metadata contradicts the file, the row is rejected.

    More frames than claimed are accepted: such metadata comes from headers, which may not count all frames.
    """
    if row.entry is None or row.status == "rejected" or claim is None:
        return row
    entry = row.entry
    got, wanted = (entry.num_frames, entry.width, entry.height), (claim.num_frames, claim.width, claim.height)
    too_short = (entry.num_frames or 0) < (claim.num_frames or 0)
    other_size = any(
        want is not None and have != want for have, want in ((entry.width, claim.width), (entry.height, claim.height))
    )
    if not (too_short or other_size):
        return row
    detail = (
        f"{entry.path}: got {got[0]} frames of {got[1]}×{got[2]}, expected {wanted[0]} of {wanted[1]}×{wanted[2]} as "
        f"{claim.source} says; copy the file again, or remove its line from the list"
    )
    return row.as_rejected(
        Rejected(video_id=row.video_id, stage=Stage.PROBE, reason=Reason.METADATA_CONFLICT, detail=detail)
    )


def _without_videos(
    dataset: Dataset,
    root: Path,
    videos: Iterable[VideoEntry],
    rejected: Iterable[Rejected],
    ignored: Iterable[Ignored],
) -> tuple[str, ...]:
    """Return a line for each folder of the dataset that has other files where its videos should be."""
    folders = dict.fromkeys(f"{name}/" for name in dataset.folders_in(root)) if isinstance(dataset, TreeDataset) else {}
    for entry in videos:
        for folder in [folder for folder in folders if entry.path.startswith(folder)]:
            del folders[folder]
    lines = []
    for folder in folders:
        instead = [item for item in ignored if f"{item.path}/".startswith(folder) and item.reason in IN_PLACE_OF_VIDEOS]
        num_rejected = sum(item.video_id.startswith(folder) for item in rejected)
        found = [*([f"{num_rejected:,} rejected"] if num_rejected else []), *describe(instead)]
        if found:
            lines.append(f"{folder} has no video, but {', '.join(found)}")
    return tuple(lines)


def _shown(names: Collection[str] | None) -> str:
    return "all" if names is None else ", ".join(names)


def _selected(
    entries: list[VideoEntry], manipulations: Collection[str] | None, compressions: Collection[str] | None
) -> list[VideoEntry]:
    """Return the requested entries; their leakage groups come from all videos on disk."""
    if compressions is not None:
        entries = [entry for entry in entries if entry.compression in compressions]
    if manipulations is None:
        return entries
    with_fakes = {entry.group_id for entry in entries if entry.label == "fake"}
    with_selected = {entry.group_id for entry in entries if entry.manipulation in manipulations}
    return [
        entry
        for entry in entries
        if entry.manipulation in manipulations
        or (entry.label == REAL and (entry.group_id in with_selected or entry.group_id not in with_fakes))
    ]


def _row(item: VideoEntry | Rejected) -> ManifestRow:
    if isinstance(item, VideoEntry):
        return ManifestRow(video_id=item.video_id, path=item.path, entry=item)
    return ManifestRow(video_id=item.video_id, path=item.video_id).as_rejected(item)
