"""A whole miniature dataset: the folder is checked, its clips are made by several processes, and what it is is said."""

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
from manifests.miniature.clips import PARTIAL_FOLDER, write_clip
from manifests.miniature.tree import CELEB_DF_LIST, LAYOUTS, ClipPlan, Parameters, celeb_df_list

MARKER = "miniature.json"  # says with which parameters the folder was made
README = "README.txt"

README_TEXT = """\
A miniature of {dataset}, made by `faceshards sample`. It is for trying the pipeline out, and for nothing else.

What it is not: research data. Nothing that is measured on it says anything about real forgeries.

What it shows: one person. Every "identity" is the same public-domain portrait, NASA's photograph of astronaut
Eileen Collins (it ships with scikit-image as `skimage.data.astronaut`), reshaped, recoloured and mirrored by a
program; beards and glasses are drawn, backgrounds are made up, and none of them is meant to be anybody. NASA and
Eileen Collins have nothing to do with it and endorse nothing.

How the fakes are made: by simple image operations, not by the methods whose names their folders bear.
{forgeries}
Every fake keeps its target's footage outside of the altered region, up to what the video encoder does.

How it was made: layout {layout}, {num_pairs} pairs, {shortest} to {longest} seconds, seed {seed} (see {marker}).
The same parameters and the same versions of the libraries give the same bytes.
"""
DATASETS_IN_SMALL = {"ffpp": "FaceForensics++", "celeb_df": "Celeb-DF v2"}
FORGERIES_IN_WORDS = {
    "ffpp": """\
  Deepfakes        the donor's inner face, coarse, close to the target's colours, with a soft edge
  Face2Face        the target's own lower face, moved by the donor's expression
  FaceSwap         the donor's face cut out and pasted, with a hard edge; ends before the footage does
  NeuralTextures   the target's own mouth, smoothed and moved
The masks are white where a fake may differ from its footage.
""",
    "celeb_df": f"""\
  Celeb-synthesis  the donor's inner face, coarse, close to the target's colours, with a soft edge
{CELEB_DF_LIST} names one file in five, whatever it shares with the others: like the real list, it leaks.
""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniatureSummary:
    """What is in the folder now."""

    num_videos: int
    """Real and fake ones."""

    num_masks: int
    """Mask videos."""

    num_bytes: int
    """Of all those files."""

    num_written: int
    """How many of the videos and masks this call made; 0 when the folder was complete before."""


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
    """Write a miniature dataset, or what is missing of it.

    With more than one worker, a script that calls this needs the usual `if __name__ == "__main__":`, because the
    workers import it anew.

    Args:
        root: a new or empty folder, or one that an earlier call with the same parameters filled in part.
        layout: `ffpp` (FaceForensics++) or `celeb_df` (Celeb-DF v2).
        num_pairs: pairs of people who are put into each other's footage, 1..500.
        seconds: shortest and longest footage.
        seed: which of many such datasets.
        num_workers: processes; None for one per CPU. The files do not depend on it.
        on_video: called with the path, relative to the root, of each video that has been made.

    Raises:
        ConfigError: a parameter is out of its range.
        DatasetError: the folder holds something else.
    """
    parameters = Parameters(layout=layout, num_pairs=num_pairs, seconds=(seconds[0], seconds[1]), seed=seed)
    if num_workers is not None and num_workers < 1:
        raise ConfigError(f"workers of the sample: got {num_workers}, expected 1 or more, or None for one per CPU")
    root = Path(root)
    _claim(root, parameters)
    _write_text(root / README, _readme(parameters))
    plans = LAYOUTS[layout](parameters)
    videos = {path for plan in plans for path in plan.video_paths}
    masks = {path for plan in plans for path in plan.mask_paths}

    unfinished = [plan for plan in plans if _is_unfinished(root, plan)]
    num_written = 0
    for written in _made(root, unfinished, parameters, num_workers or _num_cpus()):
        num_written += len(written)
        for path in written:
            if on_video is not None and path in videos:
                on_video(path)
    shutil.rmtree(root / PARTIAL_FOLDER, ignore_errors=True)
    if layout == "celeb_df":
        _write_text(root / CELEB_DF_LIST, celeb_df_list(plans))
    return MiniatureSummary(
        num_videos=len(videos),
        num_masks=len(masks),
        num_bytes=sum((root / path).stat().st_size for path in videos | masks),
        num_written=num_written,
    )


def _claim(root: Path, parameters: Parameters) -> None:
    """Make the folder this miniature's own: empty, or made with the same parameters before.

    Raises:
        DatasetError: it holds something else.
    """
    if root.exists() and not root.is_dir():
        raise DatasetError(f"folder of the sample: got {root}, which is a file, expected a new or empty folder")
    marker = root / MARKER
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
        # The marker comes before anything else, so that an interrupted run can be told from a stranger's folder.
        _write_text(marker, json.dumps(parameters.as_json(), indent=2) + "\n")
    except OSError as error:
        raise DatasetError(
            f"folder of the sample: got {root}, which cannot be written ({error.strerror}); name another one"
        ) from error


def _require_same_parameters(root: Path, parameters: Parameters) -> None:
    """Raise unless the folder's miniature has these parameters.

    Raises:
        DatasetError: it has others, or its marker cannot be read.
    """
    try:
        there = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(
            f"folder of the sample: got {root / MARKER}, which is not JSON ({error}); name another folder"
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
        dataset=DATASETS_IN_SMALL[parameters.layout],
        forgeries=FORGERIES_IN_WORDS[parameters.layout],
        layout=parameters.layout,
        num_pairs=parameters.num_pairs,
        shortest=shortest,
        longest=longest,
        seed=parameters.seed,
        marker=MARKER,
    )


def _write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all; one that says the same already is left alone."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    write_atomically(path, text.encode())


def _is_unfinished(root: Path, plan: ClipPlan) -> bool:
    return not all((root / path).exists() for path in plan.video_paths + plan.mask_paths)


def _num_cpus() -> int:
    """CPUs that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _made(root: Path, plans: list[ClipPlan], parameters: Parameters, num_workers: int) -> Iterator[list[str]]:
    """Make clips and yield, as each is done, the paths that were written for it."""
    num_workers = min(num_workers, len(plans))
    if num_workers <= 1:
        yield from (write_clip(root, plan, parameters) for plan in plans)
        return
    # Spawned, not forked: the caller may have threads (Prefect, progress bars), which a fork would freeze half-way.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        for clip in as_completed([pool.submit(write_clip, root, plan, parameters) for plan in plans]):
            yield clip.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even when it is killed: idle workers would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
