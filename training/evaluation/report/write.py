"""Files of an evaluation: writing them, and reading `evaluation.json`.

    OUT/
    ├── evaluation.json     every number: `read_evaluation`
    ├── scores.parquet      scores of frames: `training.evaluation.scores`
    ├── videos.parquet      scores per person of a video
    ├── scores.2.parquet …  both for each model that is compared, in their order
    ├── evaluation.md       main tables, beside published figures
    ├── evaluation.html     the page: `training.evaluation.report.page`
    └── figures/            plots of the page as SVG without background, for papers

Files contain neither dates nor absolute paths: the same scores and seed give the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from manifests.errors import UserError
from manifests.files import write_atomically
from training.evaluation.report.figures import draw_figures
from training.evaluation.report.markdown import evaluation_markdown
from training.evaluation.report.page import render_page
from training.evaluation.results import NO_EXTRAS, Evaluation, Extras
from training.evaluation.scores import Scores, to_videos, write_scores

EVALUATION_NAME = "evaluation.json"
SCORES_NAME = "scores.parquet"
VIDEOS_NAME = "videos.parquet"
MARKDOWN_NAME = "evaluation.md"
PAGE_NAME = "evaluation.html"
FIGURES_DIR = "figures"


def write_evaluation(out_dir: Path, evaluation: Evaluation, scores: Scores, extras: Extras = NO_EXTRAS) -> Path:
    """Write the files of an evaluation, each atomically; return the path of the page.

    Args:
        out_dir: created if missing; files of an earlier evaluation are replaced.
        evaluation: result of `summarise`.
        scores: scores of frames that it was computed from.
        extras: further parts of the page.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    plain = asdict(evaluation) | {
        "robustness": [asdict(row) for row in extras.robustness],
        "cross_dataset": extras.cross and asdict(extras.cross),
        "beside": [asdict(model.evaluation) for model in extras.beside],
    }
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    figures = draw_figures(evaluation, scores, extras)
    page = render_page(evaluation, figures, extras)
    for earlier in (*out_dir.glob("scores.*.parquet"), *out_dir.glob("videos.*.parquet")):
        earlier.unlink()
    for number, table in enumerate((scores, *(model.scores for model in extras.beside)), start=1):
        suffix = ".parquet" if number == 1 else f".{number}.parquet"
        write_scores((out_dir / SCORES_NAME).with_suffix(suffix), table)
        write_scores((out_dir / VIDEOS_NAME).with_suffix(suffix), to_videos(table))
    write_atomically(out_dir / EVALUATION_NAME, text.encode())
    write_atomically(out_dir / MARKDOWN_NAME, evaluation_markdown(evaluation, extras).encode())
    (out_dir / FIGURES_DIR).mkdir(exist_ok=True)
    for figure in figures:
        write_atomically(out_dir / FIGURES_DIR / f"{figure.name}.svg", figure.svg.encode())
    write_atomically(out_dir / PAGE_NAME, page.encode())
    return out_dir / PAGE_NAME


def read_evaluation(path: Path) -> Evaluation:
    """Read `evaluation.json`.

    Raises:
        UserError: the file cannot be read as an evaluation.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        plain = json.loads(path.read_bytes())
        known = {name: plain[name] for name in Evaluation.__dataclass_fields__}
        return TypeAdapter(Evaluation).validate_python(known)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path}: got {error}, expected an evaluation; evaluate again, or name another file") from error
