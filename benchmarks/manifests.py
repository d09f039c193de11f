"""Show the splits of the real datasets and measure the cost of a large manifest, on trees of empty files.

    python -m benchmarks.manifests [--reference DIR] [--rows 100000] [--json FILE]

With `--reference` the real datasets are recreated as empty files with the real names. The folder holds the three split
lists of FaceForensics++ (`ff_train.json`, …), `celebdf_v2_video_names.txt` (a line `<folder>/<name>.mp4` per video) and
`List_of_testing_videos_celebdf_v2.txt`. These lists are under research terms and not in the repository.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import answer_of, module_command, write_figures
from benchmarks.helpers.dfdc_tree import make_files
from manifests.datasets.recognise import recognise_layout
from manifests.entry import SPLITS, VideoEntry
from manifests.indexing import index_dataset, survey_dataset
from manifests.leakage.audit import audit
from manifests.leakage.text import describe
from manifests.splits.policies import assign
from manifests.videos_table import write_table

FFPP_MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "FaceShifter", "NeuralTextures")


def lay_out_ffpp(reference: Path, root: Path) -> None:
    """Make FaceForensics++ c23: the originals of all pairs, and both directions of each manipulation."""
    pairs = [pair for split in SPLITS for pair in json.loads((reference / f"ff_{split}.json").read_text())]
    names = {"original_sequences/youtube": [name for pair in pairs for name in pair]}
    fakes = [name for first, second in pairs for name in (f"{first}_{second}", f"{second}_{first}")]
    names |= {f"manipulated_sequences/{manipulation}": fakes for manipulation in FFPP_MANIPULATIONS}
    make_files([root / folder / "c23/videos" / f"{name}.mp4" for folder, found in names.items() for name in found])


def lay_out_celeb_df(reference: Path, root: Path) -> None:
    """Make Celeb-DF v2 with its list of test videos."""
    names = (reference / "celebdf_v2_video_names.txt").read_text().split()
    make_files([root / name for name in names])
    shutil.copy(reference / "List_of_testing_videos_celebdf_v2.txt", root / "List_of_testing_videos.txt")


def scanned(root: Path) -> list[VideoEntry]:
    """Return every video of a tree, by the layout that it is recognised as."""
    return list(recognise_layout(root).dataset.scan(root))


def facts(reference: Path, scratch: Path, console: Console) -> Iterator[dict[str, Any]]:
    """Print and yield how the real datasets are split, and what the splits share."""
    lay_out_ffpp(reference, scratch / "ffpp")
    lay_out_celeb_df(reference, scratch / "celeb_df")
    for name, policy in (("ffpp", "group"), ("ffpp", "video"), ("celeb_df", "group"), ("celeb_df", "official")):
        entries = scanned(scratch / name)
        assigned = assign(entries, policy=policy)
        counts = Counter((entry.collection, str(entry.split)) for entry in assigned)
        table = Table(name, *SPLITS, title=f"{name}, policy {policy}: {len(entries):,} videos", title_justify="left")
        for collection in sorted({collection for collection, _ in counts}):
            whole = sum(counts[collection, split] for split in SPLITS)
            cells = (f"{counts[collection, split]:,} ({counts[collection, split] / whole:.1%})" for split in SPLITS)
            table.add_row(collection, *cells)
        console.print(table)
        report = describe(audit(assigned))
        console.print(*report, sep="\n", soft_wrap=True, highlight=False)
        counted = {f"{collection} {split}": count for (collection, split), count in sorted(counts.items())}
        yield {"dataset": name, "policy": policy, "counts": counted, "report": report}


def measure_scale(num_rows: int) -> dict[str, Any]:
    """Index, split, audit and store a large dataset here; return seconds by step and peak memory in MiB."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "data")
        # In another process, so that its memory is not counted here.
        subprocess.run(module_command("helpers.dfdc_tree", root, num_rows), check=True)
        start = time.monotonic()

        def done(step: str) -> None:
            nonlocal start
            seconds[step], start = round(time.monotonic() - start, 2), time.monotonic()

        rows = index_dataset(survey_dataset(recognise_layout(root).dataset, root), probing=False)
        done("index")
        assigned = assign(row.entry for row in rows if row.entry is not None)
        done("split")
        audit(assigned)
        done("audit")
        write_table(Path(scratch, "videos.parquet"), rows)
        done("write the table")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": len(rows), "seconds": seconds, "peak_mib": round(peak_mib)}


def main() -> None:
    """Print the splits of the real datasets, and the cost of a large one measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="folder with the real datasets' name and split lists")
    parser.add_argument("--rows", type=int, default=100_000, help="videos of the large dataset")
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(measure_scale(options.child)))
        return
    console = Console()
    figures: dict[str, Any] = {}
    if options.reference:
        with tempfile.TemporaryDirectory() as scratch:
            figures["facts"] = list(facts(options.reference, Path(scratch), console))
    scale = answer_of("manifests", "--child", options.rows)
    steps = scale["seconds"]
    table = Table("rows", *(f"{step}, s" for step in steps), "sum, s", "peak MiB", title="a dataset of DFDC's shape")
    table.add_row(f"{scale['rows']:,}", *map(str, steps.values()), f"{sum(steps.values()):.1f}", str(scale["peak_mib"]))
    console.print(table)
    figures["scale"] = scale
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
