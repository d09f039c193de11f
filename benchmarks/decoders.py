"""Which decoder reads videos exactly, loudly and cheaply: decord 0.6.0, its fork decord2, PyAV.

    python benchmarks/decoders.py [--clips DIR] [--json FILE]

The two packages share the module name `decord`, so each is installed into a throw-away folder and measured in child
processes with that folder first on PYTHONPATH, in two ways: its own `get_batch`, and this project's decoder on top of
it. PyAV and torch are those of the environment that runs this file. What the frames must be is known: see
`benchmarks/odd_videos.py`. Nothing in the tables is written by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # Python puts benchmarks/ there instead when this file is run by its path

from benchmarks.odd_videos import (  # noqa: E402
    Clip,
    Pixels,
    Thumbnails,
    damaged_clips,
    real_clips,
    thumbnails,
    timing_clip,
    unusual_clips,
)

if TYPE_CHECKING:
    from rich.console import Console

NUM_UNIFORM_FRAMES = 32
NUM_PAUSED_FRAMES = 160
CHUNK_FRAMES = 8
PAUSE_SECONDS = 0.05  # what a detector might take for a chunk
SAME_FRAME_LEVELS = 1.5  # mean difference of thumbnails, 0..255, up to which two pictures can be the same frame
TABLE_WIDTH = 160  # columns of a terminal


class OpenVideo(Protocol):
    """One reader on one file."""

    num_frames: int
    # how many the reader says there are

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the (T,H,W,3) RGB frames that the reader gives for these increasing (T,) positions."""
        ...


class PyAvSequential:
    """PyAV's usual loop: decode from the first frame, keep what is wanted; what does not come is missing."""

    def __init__(self, path: Path) -> None:
        import av

        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size > 0]
        self.num_frames = sum(not packet.is_discard for packet in packets)
        container = av.open(str(path))
        container.streams.video[0].codec_context.thread_count = 1
        self._frames = enumerate(container.decode(video=0))

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """Decode up to the last wanted frame."""
        wanted, found = set(frame_indices.tolist()), []
        for number, frame in self._frames:
            if number in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
            if number >= frame_indices[-1]:
                break
        return np.stack(found).astype(np.uint8, copy=False)


class DecordGetBatch:
    """decord as its README uses it."""

    def __init__(self, path: Path) -> None:
        import decord

        self._reader = decord.VideoReader(str(path), num_threads=1)
        self.num_frames = len(self._reader)

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """One call for all of them."""
        pictures: Pixels = self._reader.get_batch(frame_indices).asnumpy()
        return pictures


class DecordOurs:
    """decord behind this project's contract."""

    def __init__(self, path: Path) -> None:
        from tasks.decoders import DECODERS

        self._reader = DECODERS["decord"]().open(path)
        self.num_frames = self._reader.num_frames

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """One call for all of them."""
        return self._reader.read(frame_indices).data


READERS: dict[str, Callable[[Path], OpenVideo]] = {
    "sequential": PyAvSequential,
    "get_batch": DecordGetBatch,
    "ours": DecordOurs,
}


def uniform(num_frames: int) -> npt.NDArray[np.int64]:
    """Return what the pipeline asks for by default."""
    return np.unique(np.linspace(0, num_frames - 1, NUM_UNIFORM_FRAMES, dtype=np.int64))


def late(num_frames: int) -> npt.NDArray[np.int64]:
    """Return a few frames of the last quarter, as a reader asks that goes on where another stopped."""
    return np.unique(np.linspace(num_frames * 3 // 4, num_frames - 2, CHUNK_FRAMES, dtype=np.int64).clip(min=0))


def beginning(num_frames: int) -> npt.NDArray[np.int64]:
    """Return every frame up to a limit."""
    return np.arange(min(num_frames, NUM_PAUSED_FRAMES), dtype=np.int64)


PICKS = {"uniform": uniform, "late": late, "paused": beginning, "beside torch": late}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one reader did with one file."""

    package: str
    # distribution and version that was measured

    reader: str
    # key of READERS

    clip: str
    # the clip's name

    task: str
    # key of PICKS

    num_wanted: int = 0
    # frames asked for

    num_exact: int = 0
    # of those, the ones that came and are the right ones

    num_wrong: int = 0
    # frames that came and are other ones

    error: str = ""
    # exception, or how the process ended; empty if it ended well

    cpu_seconds: float = 0.0
    # to open, read and convert; not the import

    peak_mib: float = 0.0
    # most memory of the process in MiB

    import_mib: float = 0.0
    # what importing the decoder added, in MiB

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        error = re.sub(r"^(\w+): .*", r"\1", self.error, flags=re.DOTALL)
        if self.num_wrong:
            return f"{self.num_wrong} of {self.num_wanted} WRONG, {f'then {error}' if error else 'silent'}"
        if self.num_exact < self.num_wanted or error:
            came = f"{self.num_exact} of {self.num_wanted}, " if self.num_exact else ""
            return came + (error or "silent")
        return f"{self.num_exact} of {self.num_wanted} exact"


# --- The child: one measurement -------------------------------------------------------------------------------------


def memory_mib(field: str) -> float:
    """Return VmRSS (now) or VmHWM (at most) of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def child(reader: str, task: str, path: Path, answer: Path) -> None:
    """Measure, and leave thumbnails and figures in a file."""
    before = memory_mib("VmRSS")
    __import__("av" if READERS[reader] is PyAvSequential else "decord")
    figures: dict[str, Any] = {"import_mib": memory_mib("VmRSS") - before, "error": ""}
    found: list[Pixels] = []
    wanted = np.zeros(0, np.int64)
    if task == "beside torch":
        multiply_in_torch()
    started = time.process_time()
    try:
        video = READERS[reader](path)
        wanted = PICKS[task](video.num_frames)
        if task == "paused":
            for start in range(0, len(wanted), CHUNK_FRAMES):
                video.read(wanted[start : start + CHUNK_FRAMES])
                time.sleep(PAUSE_SECONDS)
        else:
            found.append(video.read(wanted))
    except Exception as error:  # noqa: BLE001 - whatever a reader raises is what is measured
        first_line = (str(error).strip().splitlines() or [""])[0]
        figures["error"] = f"{type(error).__name__}: {first_line}"
    figures["cpu_seconds"] = time.process_time() - started
    figures["peak_mib"] = memory_mib("VmHWM")
    got = thumbnails(found[0]) if found else np.zeros((0, 0, 0, 3), np.float32)
    np.savez(answer, got=got, wanted=wanted, figures=json.dumps(figures))


def multiply_in_torch() -> None:
    """Import torch after the decoder and let it use its BLAS once."""
    import torch

    ones = torch.ones(64, 64)
    torch.mm(ones, ones)


# --- The parent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One decoder package."""

    name: str
    # distribution and version

    folder: Path | None
    # what goes first on PYTHONPATH; None for the one that the environment has

    readers: tuple[str, ...]
    # keys of READERS


def install(requirement: str, folder: Path) -> Package:
    """Install one distribution alone into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip install {requirement}: failed, expected a wheel for this machine\n{done.stderr}")
    name, version = next(folder.glob("*.dist-info")).name.removesuffix(".dist-info").rsplit("-", 1)
    return Package(name=f"{name} {version}", folder=folder, readers=("get_batch", "ours"))


def measure(package: Package, reader: str, clip: Clip, task: str, limit_seconds: float) -> Measurement:
    """Run one measurement in a process of its own, which is killed at the limit."""
    labels: dict[str, Any] = {"package": package.name, "reader": reader, "clip": clip.name, "task": task}
    search_path = os.pathsep.join(str(folder) for folder in (package.folder, REPOSITORY) if folder)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.npz"
        command = [sys.executable, __file__, "--child", reader, task, str(clip.path), str(answer)]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": search_path},
                timeout=limit_seconds,
                capture_output=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Measurement(**labels, error=f"HANGS, killed after {limit_seconds:g} s")
        if done.returncode < 0:
            return Measurement(**labels, error=f"CRASHES, {signal.Signals(-done.returncode).name}")
        if not answer.exists():
            raise SystemExit(f"{labels}: the measurement itself failed\n{done.stderr.decode(errors='replace')}")
        with np.load(answer) as content:
            got, wanted, figures = content["got"], content["wanted"], json.loads(str(content["figures"]))
    num_exact = sum(is_frame(picture, number, clip.truth) for picture, number in zip(got, wanted, strict=False))
    counts: dict[str, Any] = {"num_wanted": len(wanted), "num_exact": num_exact, "num_wrong": len(got) - num_exact}
    return Measurement(**labels, **figures, **counts)


def is_frame(picture: Thumbnails, number: int, truth: Thumbnails) -> bool:
    """Whether a picture is that frame: alike, and no other frame is more alike."""
    if number >= len(truth) or picture.shape != truth.shape[1:]:
        return False
    differences = np.abs(truth - picture).mean(axis=(1, 2, 3))
    return bool(differences[number] < SAME_FRAME_LEVELS and differences[number] <= differences.min() + 1e-3)


def measure_speed(
    packages: Sequence[Package], clips: Sequence[Clip], repeats: int, limit_seconds: float
) -> Iterator[Measurement]:
    """Measure each reader on each clip in each task; of the repeats of `uniform`, the one with the median CPU time."""
    for clip in clips:
        for package in packages:
            for reader in package.readers:
                runs = [measure(package, reader, clip, "uniform", limit_seconds) for _ in range(repeats)]
                yield sorted(runs, key=lambda run: run.cpu_seconds)[repeats // 2]
                for task in ("late", "paused", "beside torch"):
                    yield measure(package, reader, clip, task, limit_seconds)


def show_speed(console: Console, found: Sequence[Measurement]) -> None:
    """Print the costs and the exactness on whole clips, one reader a row, its worst clip where a column is no sum."""
    from rich.table import Table

    num_clips = len({run.clip for run in found})
    table = Table(
        "reader", title=f"{num_clips} whole clip(s), one thread", caption="exact: right frames of those asked for"
    )
    for column in ("CPU-s\na clip", "exact,\nuniform", "exact,\nlate start"):
        table.add_column(column, justify="right")
    for column in ("import", "peak", f"peak, {CHUNK_FRAMES} by {CHUNK_FRAMES}\nwith pauses"):
        table.add_column(f"{column}\nMiB" if "\n" not in column else f"{column}, MiB", justify="right")
    table.add_column("errors")
    table.add_column("torch imported\nafter it")
    for package, reader in dict.fromkeys((run.package, run.reader) for run in found):
        of = {task: [r for r in found if (r.package, r.reader, r.task) == (package, reader, task)] for task in PICKS}
        table.add_row(
            f"{package}, {reader}",
            f"{np.mean([run.cpu_seconds for run in of['uniform']]):.2f}",
            *(f"{sum(r.num_exact for r in of[t])}/{sum(r.num_wanted for r in of[t])}" for t in ("uniform", "late")),
            *(
                f"{max(run.import_mib for run in of['uniform']):.0f}",
                f"{max(run.peak_mib for run in of['uniform']):.0f}",
            ),
            f"{max(run.peak_mib for run in of['paused']):.0f}",
            ", ".join(f"{Path(run.clip).name}: {run.verdict}" for run in of["uniform"] if run.error) or "none",
            ", ".join(sorted({run.verdict for run in of["beside torch"] if "CRASHES" in run.error})) or "fine",
        )
    console.print(table)


def show_outcomes(console: Console, found: Sequence[Measurement], whole: set[str]) -> None:
    """Print what became of each unusual or damaged file, one file a row."""
    from rich.table import Table

    columns = list(dict.fromkeys((run.package, run.reader) for run in found))
    head = ["file", *(f"{package},\n{reader}" for package, reader in columns)]
    table = Table(*head, title="32 frames uniform of unusual and of damaged files")
    clips = list(dict.fromkeys(run.clip for run in found))
    for clip in clips:
        verdicts = [run.verdict for run in found if run.clip == clip]
        last_whole = clip in whole and clips[clips.index(clip) + 1] not in whole
        table.add_row(clip, *verdicts, end_section=last_whole)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--clips", type=Path, metavar="DIR", help="videos to time; default: one 720p clip made here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--limit", type=float, default=30, metavar="S", help="seconds for one measurement (default 30)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="timings per clip (default 3)")
    parser.add_argument("--packages", nargs=2, default=["decord==0.6.0", "decord2"], help="what pip installs")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        reader, task, path, answer = options.child
        child(reader, task, Path(path), Path(answer))
        return 0

    import av
    from rich.console import Console

    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    with tempfile.TemporaryDirectory(prefix="decoders-") as scratch:
        folder = Path(scratch)
        packages = [Package(name=f"PyAV {av.__version__}", folder=None, readers=("sequential",))]
        with console.status("installing both packages, making videos"):
            packages += [install(requirement, folder / requirement) for requirement in options.packages]
            clips = real_clips(options.clips) if options.clips else [timing_clip(folder)]
            others = [*unusual_clips(folder), *damaged_clips(folder)]
        with console.status("measuring"):
            speed = list(measure_speed(packages, clips, options.repeats, options.limit))
            readers = [(package, reader) for package in packages for reader in package.readers]
            outcomes = [measure(*reader, clip, "uniform", options.limit) for clip in others for reader in readers]
    show_speed(console, speed)
    show_outcomes(console, outcomes, {clip.name for clip in others if clip.is_whole})
    if options.json:
        rows = [asdict(run) | {"verdict": run.verdict} for run in [*speed, *outcomes]]
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
