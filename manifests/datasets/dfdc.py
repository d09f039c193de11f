"""The Deepfake Detection Challenge dataset (Dolhansky et al., arXiv 2006.07397), as in its archives.

    <root>/dfdc_train_part_<N>/*.mp4
    <root>/dfdc_train_part_<N>/metadata.json    {name: {"label": "REAL" | "FAKE", "split": …, "original": name or null}}
    <root>/test/metadata.json                   {name: {"is_fake": 0 | 1, "augmentations": …}} in the public test set

`root` may also be a single part, and a part may lie in a folder of its archive. File names have no meaning; an original
and its fakes are a leakage group. The dataset names neither the people nor the methods of its fakes.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from manifests.datasets.tree_dataset import WHOLE_ROOT, TreeDataset
from manifests.datasets.walk import (
    TreeFile,
    Walk,
    is_utf_8,
    leads_to_folder,
    printable,
    reject,
    reject_not_utf_8,
    tree_file,
)
from manifests.entry import FAKE, REAL, SPLIT_OF_WORD, Label, Split, VideoEntry, video_id_from
from manifests.errors import DatasetError
from manifests.files import open_text
from manifests.rejected import Reason, Rejected

METADATA = "metadata.json"
MANIPULATION = "DFDC"
LABELS: dict[str, Label] = {"REAL": REAL, "FAKE": FAKE}
# Of `is_fake` in lower case, as numbers, words or texts.
LABEL_OF_FLAG: dict[str, Label] = {
    **dict.fromkeys(("0", "0.0", "false", "real"), REAL),
    **dict.fromkeys(("1", "1.0", "true", "fake"), FAKE),
}
# Limits of the search for the layout: other datasets may have deep folders and a metadata.json for each video.
MAX_DEPTH = 2  # folders between the root and a part's metadata: the part, and one from its archive
PART_PREFIX = "dfdc_train_part"
MAX_LOOKS = 3  # files of that name that are read
MAX_CHARACTERS_SHOWN = 200  # of unknown metadata


class DFDC(TreeDataset):
    """Any number of parts, described by the metadata in each."""

    name = "dfdc"
    title = "DFDC"
    expects = f"dfdc_train_part_<N>/ with {METADATA} and *.mp4, one such part itself, or the test set with {METADATA}"
    manipulations = (MANIPULATION,)
    reads = (METADATA,)

    def recognise(self, root: Path) -> str | None:
        """Return the path of the first metadata file with DFDC's structure; None if there is none."""
        looked_at = islice(_metadata_below(root), MAX_LOOKS)
        places = [path.relative_to(root) for path in looked_at if _is_ours(path)]
        # Two folders below the root, only a part inside the folder of its archive counts.
        fitting = (place for place in places if len(place.parts) <= MAX_DEPTH or place.parts[0].startswith(PART_PREFIX))
        return next((place.as_posix() for place in fitting), None)

    def folders_in(self, root: Path) -> list[str]:
        """Return `[WHOLE_ROOT]` if the root contains a part at any level."""
        return [WHOLE_ROOT] if any(file.name == METADATA for file in Walk(root, self.reads).files()) else []

    def read(self, root: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
        """Yield an entry or a rejection for each video, and for each line of the parts' metadata.

        Raises:
            DatasetError: the metadata cannot be read.
        """
        videos: dict[tuple[str, ...], list[TreeFile]] = defaultdict(list)
        parts: list[tuple[str, ...]] = []
        for file in files:
            if file.name == METADATA:
                parts.append(file.folders)
            else:
                videos[file.folders].append(file)
        path_of_name: dict[str, str] = {}
        for part in parts:
            for found in _survey_part(root, part, videos.pop(part, [])):
                if isinstance(found, Rejected):
                    yield found
                elif (twin := path_of_name.setdefault(found.path.rpartition("/")[2], found.path)) != found.path:
                    yield reject(found.path, Reason.DUPLICATE, f"same name as {twin}: keep one of the two")
                else:
                    yield found
        detail = f"got no {METADATA} beside it, expected one that says its label; unpack the archive again"
        for file in (file for left in videos.values() for file in left):
            yield reject(file.path, Reason.UNRECOGNISED_NAME, detail)


def _metadata_below(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the paths of metadata files, down to the depth at which they may lie; other names are not kept."""
    folders: list[str] = []
    has_metadata = False
    with suppress(OSError), os.scandir(folder) as listing:
        for item in listing:
            has_metadata |= item.name == METADATA
            if depth < MAX_DEPTH and leads_to_folder(item):
                folders.append(item.name)
    if has_metadata:
        yield folder / METADATA
    for name in sorted(folders):
        yield from _metadata_below(folder / name, depth + 1)


def _is_ours(path: Path) -> bool:
    """Whether a file has the structure of DFDC's metadata."""
    return _fault_of(path) is None


def unread_metadata(root: Path) -> list[str]:
    """Return what is wrong with the first metadata below a root that does not have DFDC's structure, for messages."""
    looked_at = ((path.relative_to(root).as_posix(), _fault_of(path)) for path in islice(_metadata_below(root), 1))
    return [printable(f"{name} {fault}") for name, fault in looked_at if fault is not None]


def _fault_of(path: Path) -> str | None:
    """Return why a file is no metadata of DFDC; None if it is."""
    try:
        with open_text(path) as text:
            metadata = json.load(text)
    except (OSError, ValueError, RecursionError) as error:
        return f"is not JSON that can be read ({error})"
    lines = metadata.values() if isinstance(metadata, dict) else ()
    if any(isinstance(line, dict) and _label_of(line) is not None for line in lines):
        return None
    sample = json.dumps(next(iter(metadata.items()), None) if isinstance(metadata, dict) else metadata)
    return f"has {sample[:MAX_CHARACTERS_SHOWN]}, not a label REAL or FAKE, or is_fake 0 or 1, for each name"


def _label_of(line: Mapping[str, object]) -> Label | None:
    """Return the label in a line of a training part or of the test set; None if there is none."""
    if "is_fake" in line:
        return LABEL_OF_FLAG.get(str(line["is_fake"]).lower())
    return LABELS.get(str(line.get("label")))


def _survey_part(root: Path, part: tuple[str, ...], videos: Sequence[TreeFile]) -> Iterator[VideoEntry | Rejected]:
    """Yield an entry or a rejection for each video and each line of one part.

    Raises:
        DatasetError: the metadata cannot be read.
    """
    source = Path(root, *part, METADATA)
    try:
        with open_text(source) as text:
            metadata = json.load(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: got {error}, expected JSON; unpack the archive again") from error
    if not isinstance(metadata, dict):
        raise DatasetError(f"{source}: got a {type(metadata).__name__}, expected an object with a line for each video")
    prefix = "".join(f"{folder}/" for folder in part)
    for file in videos:
        if not is_utf_8(file.path):
            yield reject_not_utf_8(file)
        elif file.name in metadata:
            yield _read_line(file, metadata[file.name])
        else:
            detail = f"{prefix}{METADATA}: got no line for {file.name}, expected one that says its label"
            yield reject(file.path, Reason.UNRECOGNISED_NAME, detail)
    listed = {name for name in metadata if tree_file(name).is_video}
    for name in sorted(listed - {file.name for file in videos}):
        detail = f"{prefix}{METADATA}: got {name}, which is not on disk; unpack the archive again"
        yield reject(f"{prefix}{name}", Reason.MISSING_FILE, detail)


def _read_line(file: TreeFile, line: object) -> VideoEntry | Rejected:
    """Return the entry or the rejection of a video by its line of metadata."""
    line = line if isinstance(line, dict) else {}
    label, is_of_test_set = _label_of(line), "is_fake" in line
    original = line.get("original") or None
    target_id = tree_file(original).stem if isinstance(original, str) else file.stem
    split, is_known_split = _split_of("test" if is_of_test_set else line.get("split"))
    needs_original = label == FAKE and not is_of_test_set
    is_tied = isinstance(original, str) and is_utf_8(target_id) if needs_original else original is None
    if label is None or not is_known_split or not is_tied:
        detail = (
            f"{METADATA}: got {line} for {file.path}, expected label REAL or FAKE, a split, and for a fake the name "
            "of its original; or is_fake 0 or 1, as in the test set"
        )
        return reject(file.path, Reason.METADATA_CONFLICT, detail)
    return VideoEntry(
        video_id=video_id_from(DFDC.name, label, file.stem),
        path=file.path,
        dataset=DFDC.name,
        label=label,
        manipulation=MANIPULATION if label == FAKE else None,
        target_id=target_id,
        group_id=f"{DFDC.name}/{target_id}",
        listed_split=split,
    )


def _split_of(word: object) -> tuple[Split | None, bool]:
    """Return the split that a word of the metadata names, and whether the word is valid; None (no word) is valid."""
    if word is None:
        return None, True
    split = SPLIT_OF_WORD.get(word) if isinstance(word, str) else None
    return split, split is not None
