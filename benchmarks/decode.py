"""Compare decoders: exactness of their frames, reported errors, and cost, for several choices of frames.

    python -m benchmarks.decode [--clips DIR] [--packages decord2] [--json FILE] [--tiny]

This project's decoders are compared with plain ways to read a video: PyAV's and OpenCV's loops from the first frame,
and decord's own `get_batch` (`helpers/video_readers.py`). Each measurement has a process of its own, which is killed if
it hangs. The expected frames are known: see `helpers/odd_videos.py`. Costs are CPU time, also as multiples of the CPU
time for decoding the whole file without conversion, by `ffmpeg -f null`, or by PyAV if ffmpeg is not installed.

`--packages` installs other distributions of the module `decord`, which exclude each other, into temporary folders, and
measures them in both ways.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.helpers.costs import module_command, write_figures
from benchmarks.helpers.odd_videos import (
    SMALL,
    Clip,
    Thumbnails,
    damaged_clips,
    encode,
    real_clips,
    thumbnails,
    timing_clip,
    truth_of,
    unusual_clips,
)
from benchmarks.helpers.video_readers import DECORD_READERS, READERS

if TYPE_CHECKING:
    from rich.console import Console

NUM_UNIFORM_FRAMES = 30
CLIP_SECONDS, NUM_CLIP_FRAMES = 3, 10  # DFD-FCG's clips
NUM_LATE_FRAMES = 8
NUM_PAUSED_FRAMES = 160
CHUNK_FRAMES = 16  # frames per read, for the rules that read in several steps
PAUSE_SECONDS = 0.05  # what a detector might take for a chunk
SAME_FRAME_LEVELS = 1.5  # mean difference of thumbnails, 0..255, up to which two pictures can be the same frame
NEIGHBOURS = 10  # frames before and after among which the right one must be the most alike
NUM_TINY_FRAMES = 60
TABLE_WIDTH = 160  # columns of a terminal


# --- Requested frames -----------------------------------------------------------------------------------------------


def uniform(num_frames: int) -> npt.NDArray[np.int64]:
    """Return frames evenly over the video, the pipeline's default."""
    return np.unique(np.linspace(0, num_frames - 1, NUM_UNIFORM_FRAMES, dtype=np.int64))


def one_clip(num_frames: int) -> npt.NDArray[np.int64]:
    """Return the frames of one clip in the middle, at 25 frames a second."""
    length = min(num_frames, CLIP_SECONDS * 25)
    first = (num_frames - length) // 2
    return np.unique(np.linspace(first, first + length - 1, NUM_CLIP_FRAMES, dtype=np.int64))


def every(num_frames: int) -> npt.NDArray[np.int64]:
    """Return all frames."""
    return np.arange(num_frames)


def late(num_frames: int) -> npt.NDArray[np.int64]:
    """Return a few frames of the last quarter: the request of a reader that resumes where another stopped."""
    return np.unique(np.linspace(num_frames * 3 // 4, num_frames - 2, NUM_LATE_FRAMES, dtype=np.int64).clip(min=0))


def beginning(num_frames: int) -> npt.NDArray[np.int64]:
    """Return every frame up to a limit."""
    return np.arange(min(num_frames, NUM_PAUSED_FRAMES))


RULES = {
    "30 uniform": uniform,
    "10 over 3 s": one_clip,
    "every frame": every,
    "late start": late,
    "paused": beginning,
    "beside torch": late,
}
TIMED_RULES = ("30 uniform", "10 over 3 s", "every frame")
RULES_BIT_BY_BIT = ("every frame", "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Result of one reader on one file."""

    reader: str
    """Key of READERS, with the distribution in front of it if it is not the installed one."""

    clip: str
    """Name of the clip."""

    rule: str
    """Key of RULES."""

    num_wanted: int = 0
    """Requested frames."""

    num_exact: int = 0
    """Requested frames that were returned correctly."""

    num_wrong: int = 0
    """Returned frames that are not the requested ones."""

    error: str = ""
    """Exception, or the way in which the process ended; empty after success."""

    cpu_ms: float = 0.0
    """CPU time to open, read and convert, without the import, milliseconds."""

    cpu_ratio: float = 0.0
    """`cpu_ms` divided by the CPU time for decoding the whole clip without conversion."""

    peak_mib: float = 0.0
    """Peak memory of the process, MiB."""

    import_mib: float = 0.0
    """Memory that importing the decoder added, MiB."""

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
    """Return VmRSS (current memory) or VmHWM (peak memory) of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def child(reader: str, rule: str, path: Path, answer: Path) -> None:
    """Measure, and write thumbnails and figures into a file."""
    before = memory_mib("VmRSS")
    for module in ("decord",) if "decord" in reader else ("av", "cv2"):
        __import__(module)
    figures: dict[str, Any] = {"import_mib": memory_mib("VmRSS") - before, "error": ""}
    for module in ("av", "tasks.decode"):  # so that no reader pays for them while the clock runs
        __import__(module)
    if reader == "ours: pyav":
        load_loops()
    found: list[Thumbnails] = []
    wanted = np.zeros(0, np.int64)
    if rule == "beside torch":
        multiply_in_torch()
    started, aside = time.process_time(), 0.0
    try:
        video = READERS[reader](path)
        wanted = RULES[rule](video.num_frames)
        step = CHUNK_FRAMES if rule in RULES_BIT_BY_BIT else max(1, len(wanted))
        for start in range(0, len(wanted), step):
            pictures = video.read(wanted[start : start + step])
            if rule == "paused":
                time.sleep(PAUSE_SECONDS)
            begun = time.thread_time()  # without the decoder's own threads, which may work meanwhile
            found.append(thumbnails(pictures))
            aside += time.thread_time() - begun
    except Exception as error:  # noqa: BLE001 - whatever a reader raises is what is measured
        first_line = (str(error).strip().splitlines() or [""])[0]
        figures["error"] = f"{type(error).__name__}: {first_line}"
    figures["cpu_ms"] = (time.process_time() - started - aside) * 1000
    figures["peak_mib"] = memory_mib("VmHWM")
    got = np.concatenate(found) if found else np.zeros((0, 0, 0, 3), np.float32)
    np.savez(answer, got=got, wanted=wanted, figures=json.dumps(figures))


def load_loops() -> None:
    """Convert a small frame, so that the compiled loop is loaded."""
    import av

    from tasks.decode.yuv444 import to_rgb, weights_of

    frame = av.VideoFrame(16, 16, "yuv444p")
    weights = weights_of(frame)
    assert weights is not None
    to_rgb(frame, weights, np.empty((16, 16, 3), dtype=np.uint8))


def multiply_in_torch() -> None:
    """Import torch after the decoder and let it use its BLAS once."""
    import torch

    ones = torch.ones(64, 64)
    torch.mm(ones, ones)


# --- The parent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One reader of one package."""

    reader: str
    """Key of READERS."""

    package: str = ""
    """Distribution and version if it is not the installed one."""

    folder: Path | None = None
    """Folder that is put first on PYTHONPATH."""

    @property
    def name(self) -> str:
        """For the tables."""
        return f"{self.package} in {self.reader}" if self.package else self.reader


def install(requirement: str, folder: Path) -> list[Subject]:
    """Install one distribution of `decord` alone into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip install {requirement}: failed, expected a wheel for this machine\n{done.stderr}")
    name, version = next(folder.glob("*.dist-info")).name.removesuffix(".dist-info").rsplit("-", 1)
    return [Subject(reader=reader, package=f"{name} {version}", folder=folder) for reader in DECORD_READERS]


def whole_file_ms(clip: Clip) -> float:
    """Return the CPU time of decoding every frame with one thread and converting none, in milliseconds."""
    program = shutil.which("ffmpeg")
    if program:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [program, "-v", "error", "-threads", "1", "-i", str(clip.path), "-an", "-f", "null", "-"]
        subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
    import av

    started = time.process_time()
    with av.open(str(clip.path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return (time.process_time() - started) * 1000


def measure(subject: Subject, clip: Clip, rule: str, limit_seconds: float, whole_ms: float = 0.0) -> Measurement:
    """Run one measurement in a process of its own, which is killed at the limit."""
    labels: dict[str, Any] = {"reader": subject.name, "clip": clip.name, "rule": rule}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.npz"
        command = module_command("decode", "--child", subject.reader, rule, clip.path, answer)
        environment = {**os.environ, "PYTHONPATH": str(subject.folder or ""), "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, env=environment, timeout=limit_seconds, capture_output=True, check=False)
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
    return Measurement(**labels, **figures, **counts, cpu_ratio=figures["cpu_ms"] / whole_ms if whole_ms else 0.0)


def is_frame(picture: Thumbnails, number: int, truth: Thumbnails) -> bool:
    """Whether a picture is that frame: similar to it, and more similar than to any neighbour."""
    if number >= len(truth) or picture.shape != truth.shape[1:]:
        return False
    first = max(0, number - NEIGHBOURS)
    differences = np.abs(truth[first : number + NEIGHBOURS + 1] - picture).mean(axis=(1, 2, 3))
    own = differences[number - first]
    return bool(own < SAME_FRAME_LEVELS and own <= differences.min() + 1e-3)


def measure_costs(
    subjects: Sequence[Subject], clips: Sequence[Clip], rules: Sequence[str], repeats: int, limit_seconds: float
) -> Iterator[Measurement]:
    """Measure each reader on each clip by each rule; yield the repeat with the median CPU time."""
    for clip in clips:
        whole_ms = statistics.median(whole_file_ms(clip) for _ in range(repeats))
        for rule in rules:
            for subject in subjects:
                times = repeats if rule in TIMED_RULES else 1
                runs = [measure(subject, clip, rule, limit_seconds, whole_ms) for _ in range(times)]
                yield sorted(runs, key=lambda run: run.cpu_ms)[times // 2]


def show_costs(console: Console, found: Sequence[Measurement]) -> None:
    """Print costs by clip, one reader a row, and exactness and memory over all clips."""
    from rich.table import Table

    rules = [rule for rule in TIMED_RULES if any(run.rule == rule for run in found)]
    readers = list(dict.fromkeys(run.reader for run in found))
    for clip in dict.fromkeys(run.clip for run in found):
        table = Table("reader", *rules, title=f"{clip}: CPU-ms, × decoding it whole", title_justify="left")
        for reader in readers:
            of = {run.rule: run for run in found if (run.clip, run.reader) == (clip, reader)}
            table.add_row(reader, *(f"{of[rule].cpu_ms:.0f}  ×{of[rule].cpu_ratio:.2f}" for rule in rules))
        console.print(table)
    table = Table("reader", title="over all clips; exact: right frames of those asked for", title_justify="left")
    exact_rules = [rule for rule in RULES if rule not in ("paused", "beside torch") and rule in {r.rule for r in found}]
    for column in (*exact_rules, "import MiB", "peak MiB", "peak, paused", "torch after it"):
        table.add_column(column, justify="right")
    for reader in readers:
        of_rule = {rule: [r for r in found if (r.reader, r.rule) == (reader, rule)] for rule in RULES}
        runs = [run for rule in rules for run in of_rule[rule]]
        table.add_row(
            reader,
            *(f"{sum(r.num_exact for r in of_rule[x])}/{sum(r.num_wanted for r in of_rule[x])}" for x in exact_rules),
            f"{max(run.import_mib for run in runs):.0f}",
            f"{max(run.peak_mib for run in runs):.0f}",
            f"{max((run.peak_mib for run in of_rule['paused']), default=0):.0f}",
            ", ".join(sorted({run.error for run in of_rule["beside torch"] if "CRASHES" in run.error})) or "fine",
        )
    console.print(table)


def show_outcomes(console: Console, found: Sequence[Measurement], whole: set[str]) -> None:
    """Print the outcome for each unusual or damaged file, one file a row."""
    from rich.table import Table

    readers = list(dict.fromkeys(run.reader for run in found))
    table = Table("file", *readers, title=f"{NUM_UNIFORM_FRAMES} frames uniform of unusual and of damaged files")
    clips = list(dict.fromkeys(run.clip for run in found))
    for place, clip in enumerate(clips):
        last_whole = clip in whole and not whole.intersection(clips[place + 1 :])
        table.add_row(clip, *(run.verdict for run in found if run.clip == clip), end_section=last_whole)
    console.print(table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--clips", type=Path, metavar="DIR", help="videos to time; default: one 720p clip made here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument(
        "--tiny", action="store_true", help="one small clip, once, in a few seconds: a check that it runs"
    )
    parser.add_argument("--limit", type=float, default=60, metavar="S", help="seconds for one measurement (default 60)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="timings per clip (default 3)")
    parser.add_argument(
        "--packages", nargs="+", default=[], metavar="NAME", help="other distributions of decord, installed by pip"
    )
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status: 1 if one of this project's decoders gave a wrong frame."""
    options = parse(arguments)
    if options.child:
        reader, rule, path, answer = options.child
        child(reader, rule, Path(path), Path(answer))
        return 0
    from rich.console import Console

    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    with tempfile.TemporaryDirectory(prefix="decode-") as scratch:
        folder = Path(scratch)
        subjects = [Subject(reader=reader) for reader in READERS]
        with console.status("making videos"):
            for requirement in options.packages:
                subjects += install(requirement, folder / requirement)
            if options.tiny:
                path = encode(folder / "tiny.mp4", NUM_TINY_FRAMES, SMALL, g="30", bf="2")
                clips, others = [Clip(name="tiny", path=path, truth=truth_of(path))], []
            else:
                clips = real_clips(options.clips) if options.clips else [timing_clip(folder)]
                others = [*unusual_clips(folder), *damaged_clips(folder)]
        rules, repeats = (TIMED_RULES, 1) if options.tiny else (tuple(RULES), options.repeats)
        with console.status("measuring"):
            costs = list(measure_costs(subjects, clips, rules, repeats, options.limit))
            outcomes = [measure(subject, clip, "30 uniform", options.limit) for clip in others for subject in subjects]
    show_costs(console, costs)
    if outcomes:
        show_outcomes(console, outcomes, {clip.name for clip in others if clip.is_whole})
    write_figures(options.json, [asdict(run) | {"verdict": run.verdict} for run in [*costs, *outcomes]])
    return int(any(run.num_wrong for run in [*costs, *outcomes] if run.reader.startswith("ours")))


if __name__ == "__main__":
    sys.exit(main())
