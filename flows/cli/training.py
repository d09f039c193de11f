"""`faceshards train`, `evaluate` and `predict`: the words of the command line, and what is printed.

Nothing heavy is imported before the command runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

EXIT_OK = 0
STUDY, FIVE_LEVELS, ALL = "study", "five-levels", "all"
RUNS_DIR = Path("runs")


def add_training(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands to the command line."""
    train = commands.add_parser("train", help="stores → a trained model; run again to go on where it stopped")
    train.add_argument("stores", type=Path, nargs="+", metavar="STORE", help="folders of stores, mixed")
    train.add_argument(
        "--run", type=Path, dest="run_dir", metavar="RUN", help="folder of the run (default: runs/PRESET-STORE)"
    )
    train.add_argument("--preset", default="m2tr", metavar="NAME", help="recipe: see `presets` (default: m2tr)")
    train.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings")
    train.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as trainer.epochs=3")
    train.set_defaults(run=run_train)

    evaluate = commands.add_parser("evaluate", help="a model on stores: metrics with intervals, a page, tables")
    evaluate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="model.pt, or M2TR's authors' own")
    evaluate.add_argument("stores", type=Path, nargs="+", metavar="STORE", help="folders of stores to test on")
    evaluate.add_argument("--out", type=Path, metavar="DIR", help="folder of the page (default: beside CHECKPOINT)")
    evaluate.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    evaluate.add_argument("--beside", type=Path, nargs="+", default=[], metavar="CHECKPOINT", help="others to compare")
    evaluate.add_argument(
        "--robustness", choices=(STUDY, FIVE_LEVELS, ALL), help="score again under perturbations of the crops"
    )
    evaluate.add_argument(
        "--explain-layer",
        nargs="+",
        default=[],
        metavar="NAME",
        help="Grad-CAM of these layers: last, fine (M2TR's last stage), or a module's name (default: last)",
    )
    evaluate.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode (default: 2)")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    evaluate.set_defaults(run=run_evaluate)

    predict = commands.add_parser("predict", help="a model on one video: scores over time, a plot, an annotated clip")
    predict.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="model.pt")
    predict.add_argument("video", type=Path, metavar="VIDEO", help="any video file")
    predict.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: VIDEO.scores)")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    predict.set_defaults(run=run_predict)


def run_train(options: argparse.Namespace) -> int:
    """Train, and say where the model lies."""
    from flows.config.training import load_train_config
    from storage.files.layout import lock_store

    run = options_run(options)
    base: dict[str, Any] = {"stores": [str(store) for store in options.stores], "run": str(run)}
    config = load_train_config(options.config, options.set, base, options.preset)
    with _stderr().status("loading PyTorch"):
        from training.fit.train import train
    with lock_store(config.run):
        result = train(config)
    auc = "no validation split" if result.val_auc is None else f"AUC {result.val_auc:.4f} on val"
    outcome = "" if result.is_complete else "; run it again to go on"
    if result.had_nothing_to_do:
        outcome = "; it was finished before: more trainer.epochs go on, another --run begins anew"
    _say(f"{auc} after {result.num_steps:,} steps{outcome}")
    _say(f"Model: {result.model}")
    return EXIT_OK


def options_run(options: argparse.Namespace) -> Path:
    """Return the run's folder, asked for or by default."""
    if options.run_dir is not None:
        return Path(options.run_dir)
    return RUNS_DIR / f"{options.preset}-{options.stores[0].resolve().name}"


def run_evaluate(options: argparse.Namespace) -> int:
    """Evaluate, and say where the page lies."""
    from flows.config.preprocess import validate
    from tasks.workers.pool import resolve_devices
    from training.config import EvaluateConfig
    from training.evaluation.evaluate import evaluate
    from training.evaluation.perturbations.perturb import PERTURBATIONS
    from training.evaluation.report.write import MARKDOWN_NAME

    every: set[str] = {found.belongs_to for found in PERTURBATIONS.values()}
    groups: dict[str | None, set[str]] = {
        None: set(),
        STUDY: {"study"},
        FIVE_LEVELS: {"deeperforensics"},
        ALL: every,
    }
    wanted = groups[options.robustness]
    out = options.out or options.checkpoint.parent / f"evaluation-{options.stores[0].resolve().name}-{options.split}"
    config = validate(
        EvaluateConfig,
        {
            "checkpoints": [options.checkpoint, *options.beside],
            "stores": options.stores,
            "out": out,
            "split": options.split,
            "perturbations": [found.name for found in PERTURBATIONS.values() if found.belongs_to in wanted],
            "explain_layers": options.explain_layer,
            "workers": options.workers,
            "device": options.device,
        },
    )
    (device, *_) = resolve_devices(config.device, "device")
    with _stderr().status("evaluating") as status:
        page, _ = evaluate(config, device, status.update)
    _say((out / MARKDOWN_NAME).read_text(encoding="utf-8"))
    _say(f"Page: {page}")
    return EXIT_OK


def run_predict(options: argparse.Namespace) -> int:
    """Score a video, and say what that is worth."""
    with _stderr().status("loading PyTorch"):
        from flows.config.training import PredictConfig
        from flows.run.prediction import predict, summary
    out = options.out or options.video.with_name(f"{options.video.name}.scores")
    config = PredictConfig(checkpoint=options.checkpoint, video=options.video, out=out, device=options.device)
    prediction = predict(config)
    for line in summary(prediction):
        _say(line)
    return EXIT_OK


def _say(text: str) -> None:
    from flows.cli.console import stdout

    stdout().print(text, soft_wrap=True, highlight=False, markup=False)


def _stderr() -> Console:
    from flows.cli.console import stderr

    return stderr()
