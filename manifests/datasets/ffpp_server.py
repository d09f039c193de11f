"""Paths of FaceForensics++'s files on its server, from the server's lists and the user's choice; no downloading.

    <server>v3/misc/filelist.json                        pairs of originals, [["071", "054"], …]
    <server>v3/misc/deepfake_detection_filenames.json    {"actors": [name, …], "DeepFakesDetection": [name, …]}
    <server>v3/<path>                                    a file, under the path that it has in the official tree

Each pair stands for two originals, a and b, and for two fakes of each manipulation, a_b and b_a. Names have to follow
the rules of the official tree, so that no list can name a path outside of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from manifests.datasets.ffpp import (
    ACTORS,
    FAKE_NAME,
    FOOTAGE,
    MANIPULATED,
    MASKS,
    ORIGINALS,
    REAL_NAME,
    VIDEOS,
    YOUTUBE,
)
from manifests.errors import ConfigError, DatasetError

VERSION = "v3/"  # of the release: the first part of every path on the server
PAIRS_LIST = "misc/filelist.json"
ACTORS_LIST = "misc/deepfake_detection_filenames.json"
# The two keys of ACTORS_LIST; the second is not spelled like the folder whose files it lists.
ACTORS_KEY, DEEP_FAKE_DETECTION_KEY = "actors", "DeepFakesDetection"

MANIPULATIONS = tuple(FOOTAGE)
# The four of the paper (Rössler et al., ICCV 2019): what "FaceForensics++" means in most tables.
PAPER_MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
COMPRESSIONS = ("raw", "c23", "c40")  # folders on the server; `c0`, found on some disks, is an older name of raw
WITHOUT_MASKS = frozenset({"FaceShifter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerChoice:
    """The part of the dataset that the user wants."""

    manipulations: tuple[str, ...] = PAPER_MANIPULATIONS
    """Names of folders below `manipulated_sequences`; may be empty."""

    originals: bool = True
    """Whether to include the real videos of these manipulations; without any manipulation, those from YouTube."""

    compressions: tuple[str, ...] = ("c23",)
    """Compressions of each video."""

    masks: bool = False
    """Whether to include the masks of the fakes, where masks exist."""

    videos: tuple[str, ...] | None = None
    """Only these videos: the name of an original includes the fakes of its footage; None for all."""

    limit: int | None = None
    """Number of videos of each kind, the first in the server's list; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One folder of videos, such as Deepfakes, at all compressions."""

    folder: str
    """`original_sequences/youtube`, `manipulated_sequences/Deepfakes`, …."""

    names: tuple[str, ...]
    """File names without `.mp4`, in the server's order."""

    has_masks: bool
    """Whether there is a mask video for each name."""


def lists_needed(choice: ServerChoice) -> tuple[str, ...]:
    """Return the paths of the lists that name the chosen files, below `<server>v3/`."""
    list_of = {YOUTUBE: PAIRS_LIST, ACTORS: ACTORS_LIST}
    return tuple(list_of[footage] for footage in _footage(choice))


def paths_on_server(choice: ServerChoice, lists: Mapping[str, object]) -> tuple[str, ...]:
    """Return the POSIX paths of all chosen files: below `<server>v3/`, and below the folder of the official tree.

    Args:
        choice: the part that the user wants.
        lists: the parsed JSON of each list of `lists_needed`, by its path.

    Raises:
        DatasetError: a list has an unexpected shape.
        ConfigError: a chosen video is in no list, or the choice is empty.
    """
    kinds = [_chosen(kind, choice) for kind in _kinds(choice, lists)]
    _refuse_unknown_videos(choice, lists)
    paths: list[str] = []
    for kind in kinds:
        for compression in choice.compressions:
            paths += [f"{kind.folder}/{compression}/{VIDEOS}/{name}.mp4" for name in kind.names]
        if choice.masks and kind.has_masks:
            paths += [f"{kind.folder}/{MASKS}/{VIDEOS}/{name}.mp4" for name in kind.names]
    if not paths:
        raise ConfigError("choice: got neither originals nor manipulations, expected at least one of them")
    return tuple(paths)


def _footage(choice: ServerChoice) -> list[str]:
    """Return the footage of the choice: `youtube`, `actors` or both."""
    touched = {FOOTAGE[name] for name in choice.manipulations} or {YOUTUBE}
    return [footage for footage in (YOUTUBE, ACTORS) if footage in touched]


def _kinds(choice: ServerChoice, lists: Mapping[str, object]) -> Iterator[_Kind]:
    """Yield originals, then manipulations, with all their names."""
    names = {footage: _names(footage, lists) for footage in _footage(choice)}
    if choice.originals:
        for footage, (originals, _) in names.items():
            yield _Kind(folder=f"{ORIGINALS}/{footage}", names=originals, has_masks=False)
    for manipulation in choice.manipulations:
        _, fakes = names[FOOTAGE[manipulation]]
        has_masks = manipulation not in WITHOUT_MASKS
        yield _Kind(folder=f"{MANIPULATED}/{manipulation}", names=fakes, has_masks=has_masks)


def _chosen(kind: _Kind, choice: ServerChoice) -> _Kind:
    """Return the kind with the chosen names only."""
    wanted = None if choice.videos is None else set(choice.videos)
    names = [name for name in kind.names if wanted is None or {name, _original_of(name)} & wanted]
    return _Kind(folder=kind.folder, names=tuple(names[: choice.limit]), has_masks=kind.has_masks)


def _original_of(name: str) -> str:
    """Return the name of the footage: `071` of `071_054`, `01__talking` of `01_02__talking__ABCDEFGH`."""
    people, *rest = name.split("__")
    return "__".join([people.split("_")[0], *rest[:1]])


def _refuse_unknown_videos(choice: ServerChoice, lists: Mapping[str, object]) -> None:
    known = {name for footage in _footage(choice) for names in _names(footage, lists) for name in names}
    unknown = [name for name in choice.videos or () if name not in known]
    if unknown:
        raise ConfigError(
            f"videos: got {', '.join(unknown[:6])}, which the server does not list, expected names such as "
            f"{', '.join(sorted(known)[:3])}; leave .mp4 out"
        )


def _names(footage: str, lists: Mapping[str, object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of all originals and of all fakes of a kind of footage, in the server's order."""
    path = PAIRS_LIST if footage == YOUTUBE else ACTORS_LIST
    found = lists[path]
    if footage == YOUTUBE:
        pairs = _pairs(found)
        originals = tuple(name for pair in pairs for name in pair)
        fakes = tuple(name for first, second in pairs for name in (f"{first}_{second}", f"{second}_{first}"))
    elif isinstance(found, dict):
        originals = _listed(found.get(ACTORS_KEY), REAL_NAME[ACTORS])
        fakes = _listed(found.get(DEEP_FAKE_DETECTION_KEY), FAKE_NAME[ACTORS])
    else:
        raise _unexpected(path, found, f"an object with {ACTORS_KEY} and {DEEP_FAKE_DETECTION_KEY}")
    twice = next((name for name, count in Counter(originals + fakes).items() if count > 1), None)
    if twice is not None:
        raise _unexpected(path, f"{twice} twice", "each name once")
    return originals, fakes


def _pairs(found: object) -> list[tuple[str, str]]:
    expected = "a list of pairs of originals such as [['071', '054']]"
    if not isinstance(found, list) or not found:
        raise _unexpected(PAIRS_LIST, found, expected)
    pairs: list[tuple[str, str]] = []
    for pair in found:
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        if not is_pair or not all(REAL_NAME[YOUTUBE].fullmatch(name) for name in pair):
            raise _unexpected(PAIRS_LIST, pair, expected)
        pairs.append((pair[0], pair[1]))
    return pairs


def _listed(found: object, name_rule: re.Pattern[str]) -> tuple[str, ...]:
    if not isinstance(found, list) or not found:
        raise _unexpected(ACTORS_LIST, found, "lists of names")
    for name in found:
        if not isinstance(name, str) or not name_rule.fullmatch(name):
            raise _unexpected(ACTORS_LIST, name, f"names like {name_rule.pattern}")
    return tuple(found)


def _unexpected(path: str, got: object, expected: str) -> DatasetError:
    shown = got if isinstance(got, str) else repr(got)
    return DatasetError(
        f"{VERSION}{path} on the server: got {shown[:80]}, expected {expected}; "
        "is this the address that came with your access to FaceForensics++?"
    )
