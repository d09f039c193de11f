"""Writing of a miniature dataset: checks the folder, makes the clips in several processes, and adds a README."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigError, DatasetError
from manifests.files import write_atomically
from manifests.indexing import MINIATURE_MARKER
from manifests.miniature.clips import PARTIAL_FOLDER, write_clip
from manifests.miniature.tree import LAYOUTS, ClipPlan, Parameters

README = "README.txt"

README_TEXT = """\
A miniature of {dataset}, made by `faceshards sample`, only to try the pipeline.

What it is not: research data. Measurements on it say nothing about real forgeries.

What it shows: one person. Every "identity" is the same public-domain portrait, NASA's photograph of astronaut
Eileen Collins (it ships with scikit-image as `skimage.data.astronaut`), reshaped, recoloured and mirrored by a
program; beards and glasses are drawn, backgrounds are invented, and no identity depicts a real person. NASA and
Eileen Collins are not involved and do not endorse it.

How the fakes are made: by simple image operations, not by the methods after which their folders are named.
{forgeries}
Outside of the altered region, a fake equals its target's footage, apart from the losses of the video encoder.

How it was made: layout {layout}, {num_pairs} pairs, {shortest} to {longest} seconds, seed {seed} (see {marker}).
The same parameters and the same versions of the libraries give the same bytes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniatureSummary:
    """Contents of the folder after a call."""

    num_videos: int
    """Real and fake videos."""

    num_masks: int
    """Mask videos."""

    num_bytes: int
    """Size of all these files together."""

    num_written: int
    """Videos and masks that this call wrote; 0 if the folder was complete before."""


def write_miniature(
    root: Path,
    *,
    layout: str = "ffpp",
    num_pairs: int = 20,
    seconds: tuple[float, float] = (2.0, 4.0),
    seed: int = 0,
    num_workers: int | None = None,
    on_video: Callable[[str], None] | None = None,
) -> MiniatureSummary:
    """Write a miniature dataset, or the missing files of one.

    With more than one worker, a script that calls this needs `if __name__ == "__main__":`, because the workers import
    the script.

    Args:
        root: a new or empty folder, or one that an earlier call with the same parameters has partly filled.
        layout: a name in `LAYOUTS`: `ffpp` (FaceForensics++) or `celeb_df` (Celeb-DF v2).
        num_pairs: pairs of people whose faces are swapped in each other's footage, 1..500.
        seconds: shortest and longest footage.
        seed: seed of all random numbers.
        num_workers: processes, None for one per CPU; the files do not depend on it.
        on_video: called with the path of each video that was written, relative to the root.

    Raises:
        ConfigError: a parameter is out of range.
        DatasetError: the folder holds other files.
    """
    parameters = Parameters(layout=layout, num_pairs=num_pairs, seconds=(seconds[0], seconds[1]), seed=seed)
    if num_workers is not None and num_workers < 1:
        raise ConfigError(f"workers of the sample: got {num_workers}, expected 1 or more, or None for one per CPU")
    root = Path(root)
    _claim(root, parameters)
    _write_text(root / README, _readme(parameters))
    plans = LAYOUTS[layout].plan(parameters)
    videos = {path for plan in plans for path in plan.video_paths}
    masks = {path for plan in plans for path in plan.mask_paths}

    unfinished = [plan for plan in plans if _is_unfinished(root, plan)]
    num_written = 0
    for written in _made(root, unfinished, parameters, num_workers or len(os.sched_getaffinity(0))):
        num_written += len(written)
        for path in written:
            if on_video is not None and path in videos:
                on_video(path)
    shutil.rmtree(root / PARTIAL_FOLDER, ignore_errors=True)
    for name, text in LAYOUTS[layout].lists(plans).items():
        _write_text(root / name, text)
    return MiniatureSummary(
        num_videos=len(videos),
        num_masks=len(masks),
        num_bytes=sum((root / path).stat().st_size for path in videos | masks),
        num_written=num_written,
    )


def _claim(root: Path, parameters: Parameters) -> None:
    """Create the folder, or check that it is empty or a miniature with the same parameters.

    Raises:
        DatasetError: it holds other files, or cannot be written to.
    """
    if root.exists() and not root.is_dir():
        raise DatasetError(f"folder of the sample: got {root}, which is a file, expected a new or empty folder")
    marker = root / MINIATURE_MARKER
    if marker.is_file():
        _require_same_parameters(root, parameters)
        return
    held = sorted(child.name for child in root.iterdir()) if root.exists() else []
    if held:
        raise DatasetError(
            f"folder of the sample: got {root} (holding {', '.join(held[:6])}), expected a new or empty folder; "
            "name another one"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        # The marker is written first, so that the folder of an interrupted run is recognised.
        _write_text(marker, json.dumps(parameters.as_json(), indent=2) + "\n")
    except OSError as error:
        raise DatasetError(
            f"folder of the sample: got {root}, which cannot be written ({error.strerror}); name another one"
        ) from error


def _require_same_parameters(root: Path, parameters: Parameters) -> None:
    """Raise unless the folder's miniature has these parameters.

    Raises:
        DatasetError: it has others, or its parameters cannot be read.
    """
    try:
        there = json.loads((root / MINIATURE_MARKER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(
            f"folder of the sample: got {root / MINIATURE_MARKER}, which is not JSON ({error}); name another folder"
        ) from error
    found = there if isinstance(there, dict) else {}
    differing = [
        f"{name} {found.get(name)!r} instead of {value!r}"
        for name, value in parameters.as_json().items()
        if found.get(name) != value
    ]
    if not differing:
        return
    raise DatasetError(
        f"folder of the sample: got {root}, which holds a miniature with {'; '.join(differing)}; "
        "name another folder, or ask for the same parameters"
    )


def _readme(parameters: Parameters) -> str:
    shortest, longest = parameters.seconds
    return README_TEXT.format(
        dataset=LAYOUTS[parameters.layout].title,
        forgeries=LAYOUTS[parameters.layout].forgeries,
        layout=parameters.layout,
        num_pairs=parameters.num_pairs,
        shortest=shortest,
        longest=longest,
        seed=parameters.seed,
        marker=MINIATURE_MARKER,
    )


def _write_text(path: Path, text: str) -> None:
    """Write a small file atomically, unless it has this content."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text.encode())


def _is_unfinished(root: Path, plan: ClipPlan) -> bool:
    return not all((root / path).exists() for path in plan.video_paths + plan.mask_paths)


def _made(root: Path, plans: list[ClipPlan], parameters: Parameters, num_workers: int) -> Iterator[list[str]]:
    """Make clips, and yield the paths that were written for each when it is complete."""
    num_workers = min(num_workers, len(plans))
    if num_workers <= 1:
        yield from (write_clip(root, plan, parameters) for plan in plans)
        return
    # Spawned, not forked: a fork of a process with threads (Prefect, progress bars) can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        for clip in as_completed([pool.submit(write_clip, root, plan, parameters) for plan in plans]):
            yield clip.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent dies: an idle worker would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
