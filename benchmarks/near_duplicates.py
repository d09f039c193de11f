"""Compare rules that separate copies of a video from other videos by perceptual hashes of a few frames.

    python -m benchmarks.near_duplicates [--clips DIR] [--pairs 20] [--json FILE]

Copies are made here: each clip is encoded again in several ways, and compared with its source. Different footage comes
from the miniature dataset, a hard case: the same face, with other crops, tints and light, is in the middle of every
picture. All pairs of the clips are listed, so that a person can check them. Without `--clips`, the clips are the
miniature's own. At the end, the search is timed on random hashes.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import answer_of, write_figures
from manifests.datasets import DATASETS
from manifests.entry import SPLITS, VideoEntry
from manifests.leakage.near_duplicates import RULE, Rule, find_near_duplicates
from manifests.miniature import write_miniature
from manifests.probe.container import coded_stream, open_video
from manifests.probe.frame_hashes import POSITIONS, hash_frames, words_of
from manifests.rejected import Stage

if TYPE_CHECKING:
    from av import VideoFrame

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
NUM_MINIATURE_CLIPS = 6  # taken as clips where none are given
QUARTERS = (Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))  # the other positions that were tried
RULES = [Rule(min_words=words, max_bits=bits) for words in (1, 2, 3) for bits in (2, 4, 6, 8, 10)]
VIDEOS_TO_SEARCH = (6_000, 100_000)
DARKEST, BRIGHTEST = 16, 235  # of luma in television range

Words = tuple[int | None, ...]
Bits = tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Encoding of a copy; by default x264's, with 250 frames between key frames."""

    name: str
    """Name in the tables."""

    crf: int = 23
    """X264's quality; 40 is about a tenth of the bytes."""

    scale: float = 1.0
    """Factor on width and height."""

    fps: int | None = None
    """Frames per second; None keeps them."""

    skip_seconds: float = 0.0
    """Seconds that are cut off at the beginning."""

    gain: float = 1.0
    """Factor on luma."""

    group: int = 250
    """Longest distance between key frames."""


RECIPES = (
    Recipe(name="encoded again"),
    Recipe(name="a tenth of the bytes", crf=40),
    Recipe(name="half size", scale=0.5),
    Recipe(name="15 frames a second", fps=15),
    Recipe(name="brighter by 30 %", gain=1.3),
    Recipe(name="darker by 40 %", gain=0.6),
    Recipe(name="key frames every 50", group=50),
    Recipe(name="key frames every 12", group=12),
    Recipe(name="first 0.5 s cut off", skip_seconds=0.5),
    Recipe(name="first 2 s cut off", skip_seconds=2.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two videos and the distances of their words."""

    names: tuple[str, str]
    """Names of a clip and a recipe, or of two videos."""

    bits: Bits
    """(4,) Hamming distances at POSITIONS, None where empty."""

    bits_at_quarters: Bits
    """(4,) Hamming distances at QUARTERS, None where empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """The words of one video."""

    at_positions: Words
    """(4,) words at POSITIONS, None where empty."""

    at_quarters: Words
    """(4,) words at QUARTERS, None where empty."""


def hashed(path: Path) -> Hashed:
    """Hash a file as probing does, and at the other positions."""
    with open_video(path, Stage.PROBE) as (container, stream):
        num_frames = len(coded_stream(container, stream, Stage.PROBE).times)
        return Hashed(
            at_positions=words_of(hash_frames(container, stream, num_frames)),
            at_quarters=words_of(hash_frames(container, stream, num_frames, QUARTERS)),
        )


def compare(names: tuple[str, str], first: Hashed, second: Hashed) -> Compared:
    """Count the bits in which two videos differ."""
    return Compared(
        names=names,
        bits=bits_apart(first.at_positions, second.at_positions),
        bits_at_quarters=bits_apart(first.at_quarters, second.at_quarters),
    )


def bits_apart(first: Words, second: Words) -> Bits:
    """Return the Hamming distance of each two words; None where one is empty."""
    pairs = zip(first, second, strict=True)
    return tuple(None if one is None or two is None else (one ^ two).bit_count() for one, two in pairs)


def is_near(bits: Bits, rule: Rule) -> bool:
    """Whether the rule calls a pair near."""
    return sum(distance is not None and distance <= rule.max_bits for distance in bits) >= rule.min_words


def copy_clip(source: Path, target: Path, recipe: Recipe) -> None:
    """Encode a clip again."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        shown = old.streams.video[0]
        rate = Fraction(recipe.fps or shown.average_rate or 25).limit_denominator(1001)
        options = {"crf": str(recipe.crf), "g": str(recipe.group), "preset": "veryfast"}
        stream = new.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = (int(side * recipe.scale) // 2 * 2 for side in (shown.width, shown.height))
        stream.pix_fmt = "yuv420p"
        number = 0
        for frame in old.decode(shown):
            seconds = frame.time or 0.0
            if seconds < recipe.skip_seconds or (recipe.fps and seconds < number / recipe.fps):
                continue
            picture = with_gain(frame.reformat(stream.width, stream.height, "yuv420p"), recipe.gain)
            picture.pts, picture.time_base = number, 1 / rate
            number += 1
            new.mux(stream.encode(picture))
        new.mux(stream.encode())


def with_gain(frame: VideoFrame, gain: float) -> VideoFrame:
    """Return a new frame whose luma is multiplied."""
    planes = frame.to_ndarray().astype(np.float32)
    planes[: frame.height] = np.clip(planes[: frame.height] * gain, DARKEST, BRIGHTEST)
    return av.VideoFrame.from_ndarray(planes.astype(np.uint8), format="yuv420p")


def compare_copies(clips: dict[str, Path], scratch: Path) -> Iterator[Compared]:
    """Make every copy of every clip and compare it with its clip."""
    for name, path in clips.items():
        original = hashed(path)
        for recipe in RECIPES:
            copy_clip(path, scratch / "copy.mp4", recipe)
            yield compare((name, recipe.name), original, hashed(scratch / "copy.mp4"))


def compare_footage(root: Path) -> list[Compared]:
    """Compare the miniature's videos of different footage, fakes included."""
    videos = [(entry, hashed(root / entry.path)) for entry in DATASETS["ffpp"].scan(root)]
    return [
        compare((one.video_id, two.video_id), words_of_one, words_of_two)
        for (one, words_of_one), (two, words_of_two) in combinations(videos, 2)
        if one.target_id != two.target_id
    ]


def nearest(bits: Bits) -> int:
    """Return the least distance; 64 where nothing could be compared."""
    return min((distance for distance in bits if distance is not None), default=64)


def shown(bits: Bits) -> str:
    """Return distances as text."""
    return " ".join("–" if distance is None else str(distance) for distance in bits)


def copies_table(copies: Sequence[Compared]) -> Table:
    """Tabulate, for each recipe, the nearest word of each clip's copy."""
    names = list(dict.fromkeys(copy.names[0] for copy in copies))
    head = ["copy", *(Path(name).stem for name in names), "missed", "missed at quarters"]
    table = Table(*head, title="bits of 64 between a clip and its copy, word by word", title_justify="left")
    for recipe in RECIPES:
        made = {copy.names[0]: copy for copy in copies if copy.names[1] == recipe.name}
        missed = sum(not is_near(copy.bits, RULE) for copy in made.values())
        missed_at_quarters = sum(not is_near(copy.bits_at_quarters, RULE) for copy in made.values())
        table.add_row(recipe.name, *(shown(made[name].bits) for name in names), str(missed), str(missed_at_quarters))
    return table


def rules_table(copies: Sequence[Compared], footage: Sequence[Compared]) -> Table:
    """Tabulate the numbers of copies and of different footage that each rule finds."""
    head = ("words", "bits", f"of {len(copies):,} copies", "at quarters", f"of {len(footage):,} different pairs")
    table = Table(*head, title="rules: at least so many words, at most so many bits apart", title_justify="left")
    for rule in RULES:
        table.add_row(
            str(rule.min_words),
            str(rule.max_bits),
            str(sum(is_near(copy.bits, rule) for copy in copies)),
            str(sum(is_near(copy.bits_at_quarters, rule) for copy in copies)),
            f"{sum(is_near(pair.bits, rule) for pair in footage):,}",
            style="bold" if rule == RULE else None,
        )
    return table


def clips_table(clips: dict[str, Path]) -> tuple[Table, list[Compared]]:
    """Tabulate all pairs of clips, nearest first."""
    words = {name: hashed(path) for name, path in clips.items()}
    pairs = [compare((one, two), words[one], words[two]) for one, two in combinations(words, 2)]
    pairs.sort(key=lambda pair: nearest(pair.bits))
    table = Table("clip", "clip", "bits", "near", title="the clips themselves", title_justify="left")
    for pair in pairs:
        table.add_row(*pair.names, shown(pair.bits), "yes" if is_near(pair.bits, RULE) else "")
    return table, pairs


def search(num_videos: int) -> dict[str, Any]:
    """Search random hashes in splits of 70, 15 and 15 %; return seconds and peak memory in MiB."""
    draw = random.Random(0)
    entries = [
        VideoEntry(
            video_id=f"random/real/{number:07d}",
            path=f"{number}.mp4",
            dataset="random",
            label="real",
            target_id=str(number),
            group_id=str(number),
            split=draw.choices(SPLITS, (0.70, 0.15, 0.15))[0],
            frame_hashes=f"{draw.getrandbits(64 * len(POSITIONS)):0{16 * len(POSITIONS)}x}",
        )
        for number in range(num_videos)
    ]
    start = time.monotonic()
    found = find_near_duplicates(entries)
    seconds = time.monotonic() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "videos": num_videos,
        "seconds": round(seconds, 2),
        "peak_mib": round(peak_mib),
        "near": sum(found.by_splits.values()),
    }


def searches_table(searches: Sequence[dict[str, Any]]) -> Table:
    """Tabulate the cost of the search."""
    head = ("videos", "seconds", "peak MiB", "near pairs")
    table = Table(*head, title="search of random hashes, 70/15/15 %, one process each", title_justify="left")
    for found in searches:
        table.add_row(f"{found['videos']:,}", f"{found['seconds']:.2f}", f"{found['peak_mib']:,}", str(found["near"]))
    return table


def searched(num_videos: int) -> dict[str, Any]:
    """Search in a process of its own, so that the measured memory is that of the search."""
    return answer_of("near_duplicates", "--child", num_videos)


def clips_below(folder: Path) -> dict[str, Path]:
    """Return the videos below a folder by their relative paths."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise SystemExit(f"--clips: got {folder} without videos, expected a folder with {', '.join(VIDEO_SUFFIXES)}")
    return {path.relative_to(folder).as_posix(): path for path in paths}


def main() -> None:
    """Make, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="real videos to copy; default: the miniature's own")
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="pairs of people in the miniature dataset")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(search(options.child)))
        return
    console = Console()
    console.width = max(console.width, 160)
    with tempfile.TemporaryDirectory(prefix="near-duplicates-") as scratch:
        root = Path(scratch, "miniature")
        with console.status("making the miniature dataset"):
            write_miniature(root, num_pairs=options.pairs)
        originals = list(clips_below(root / "original_sequences").items())[:NUM_MINIATURE_CLIPS]
        clips = clips_below(options.clips) if options.clips else dict(originals)
        with console.status("copying and comparing"):
            copies = list(compare_copies(clips, Path(scratch)))
            footage = compare_footage(root)
            table, pairs = clips_table(clips)
    with console.status("searching"):
        searches = [searched(num_videos) for num_videos in VIDEOS_TO_SEARCH]
    least = min(nearest(pair.bits) for pair in footage)
    console.print(copies_table(copies), table, rules_table(copies, footage))
    console.print(f"Different footage of the miniature: the nearest word of any pair is {least} bits away.")
    console.print(searches_table(searches))
    compared = {"copies": copies, "clips": pairs, "footage": footage}
    figures: dict[str, Any] = {name: [asdict(pair) for pair in found] for name, found in compared.items()}
    write_figures(options.json, figures | {"searches": searches})


if __name__ == "__main__":
    main()
