"""A dataset of DFDC's shape in empty files.

python -m benchmarks.helpers.dfdc_tree ROOT NUM_VIDEOS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

VIDEOS_PER_PART = 2000  # of a DFDC archive
FAKES_PER_ORIGINAL = 4


def make_files(paths: Sequence[Path]) -> None:
    """Make empty files and their folders."""
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.touch()


def lay_out_dfdc(num_rows: int, root: Path) -> None:
    """Make a dataset of DFDC's shape: parts of 2,000 videos, four fakes of each original."""
    for part, start in enumerate(range(0, num_rows, VIDEOS_PER_PART)):
        metadata: dict[str, dict[str, str]] = {}
        for number in range(start, min(start + VIDEOS_PER_PART, num_rows)):
            original = number - number % (FAKES_PER_ORIGINAL + 1)
            metadata[f"v{number:07d}.mp4"] = {"label": "REAL", "split": "train"}
            if number != original:
                metadata[f"v{number:07d}.mp4"] |= {"label": "FAKE", "original": f"v{original:07d}.mp4"}
        folder = root / f"dfdc_train_part_{part}"
        make_files([folder / name for name in metadata])
        (folder / "metadata.json").write_text(json.dumps(metadata))


if __name__ == "__main__":
    lay_out_dfdc(int(sys.argv[2]), Path(sys.argv[1]))
