"""The commands about models: `train`, `evaluate` and `predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.cli.command import CONFIG, DEVICE, Argument, Command, Options, flag, path, setting, several
from flows.cli.console import complain, progress_of, say, working
from manifests.entry import SPLITS
from manifests.errors import EXIT_OK

ALL = "all"
# Groups of perturbations for `--robustness`: name on the command line → `Perturbation.belongs_to`.
GROUPS = {"study": "study", "five-levels": "deeperforensics"}
RUNS_DIR = Path("runs")
UPSAMPLING = flag("--allow-upsampling", "accept crops that are smaller than the input of the model")


def commands() -> Iterator[Command]:
    """Yield the commands."""
    stores = path("stores", "STORE", "folders of stores", nargs="+")
    yield Command(
        "train",
        "train a model on stores, or resume its training",
        train,
        stores,
        path(
            "--run", "RUN", "folder of the run, with checkpoints and model (default: runs/PRESET-STORE)", dest="run_dir"
        ),
        Argument(
            "--preset",
            "settings of a training; `faceshards presets` lists them (default: m2tr)",
            default="m2tr",
            metavar="NAME",
        ),
        CONFIG,
        setting("trainer.epochs=3"),
        UPSAMPLING,
    )
    layers = "layers for Grad-CAM: last, fine (the last stage of M2TR) or a module's name (default: last)"
    yield Command(
        "evaluate",
        "evaluate a model on stores: metrics with confidence intervals, tables, a page",
        evaluate,
        path("checkpoint", "CHECKPOINT", "trained model (model.pt), or a checkpoint of M2TR's authors"),
        stores,
        path("--out", "DIR", "folder of the page (default: evaluation-STORE-SPLIT beside CHECKPOINT)"),
        Argument("--split", "split of the stores that is scored (default: test)", choices=SPLITS, default="test"),
        path("--beside", "CHECKPOINT", "other models to compare with CHECKPOINT", nargs="+", default=[]),
        Argument("--robustness", "also score crops with this set of perturbations", choices=(*GROUPS, ALL)),
        several("--explain-layer", layers, default=[], metavar="NAME"),
        UPSAMPLING,
        Argument("--workers", "number of processes that decode (default: 2)", type=int, default=2, metavar="N"),
        DEVICE,
    )
    yield Command(
        "predict",
        "score one video: scores over time, a plot, an annotated clip",
        predict,
        path("checkpoint", "CHECKPOINT", "trained model (model.pt)"),
        path("video", "VIDEO", "video file"),
        path("--out", "DIR", "folder of the results (default: VIDEO's name with .scores, in the current folder)"),
        DEVICE,
    )


def train(options: Options) -> int:
    """Train a model, and print where it is."""
    from flows.config.training import backbone_file, load_train_config
    from storage.files.layout import lock_store

    run = _run_folder(options)
    base: dict[str, object] = {"stores": [str(store) for store in options.stores], "run": str(run)}
    if options.allow_upsampling:
        base["data"] = {"allow_upsampling": True}
    config = load_train_config(options.config, options.set, base, options.preset)
    with working("loading PyTorch"):
        from training.fit.train import train as train_model
    with lock_store(config.run):
        result = train_model(config, complain, backbone_file(config))
    outcome = "" if result.is_complete else "; run it again to resume"
    if result.had_nothing_to_do:
        outcome = "; it was finished before: raise trainer.epochs to resume it, or name another --run"
    say(f"{result.in_a_line}{outcome}")
    say(f"Model: {result.model}")
    return EXIT_OK


def _run_folder(options: Options) -> Path:
    """Return the run folder: the named one, or the default."""
    if options.run_dir is not None:
        return Path(options.run_dir)
    return RUNS_DIR / f"{options.preset}-{options.stores[0].resolve().name}"


def evaluate(options: Options) -> int:
    """Evaluate a model, and print the results and where the page is."""
    from flows.config.preprocess import validate
    from tasks.workers.devices import resolve_devices
    from training.config import EvaluateConfig
    from training.evaluation.evaluate import evaluate as evaluate_models
    from training.evaluation.perturbations import PERTURBATIONS
    from training.evaluation.report.write import MARKDOWN_NAME

    out = options.out or options.checkpoint.parent / f"evaluation-{options.stores[0].resolve().name}-{options.split}"
    group = GROUPS.get(options.robustness)
    perturbations = [
        name
        for name, found in (PERTURBATIONS.items() if options.robustness else ())
        if options.robustness == ALL or found.belongs_to == group
    ]
    config = validate(
        EvaluateConfig,
        {
            "checkpoints": [options.checkpoint, *options.beside],
            "stores": options.stores,
            "out": out,
            "split": options.split,
            "allow_upsampling": options.allow_upsampling,
            "perturbations": perturbations,
            "explain_layers": options.explain_layer,
            "workers": options.workers,
            "device": options.device,
        },
    )
    (device, *_) = resolve_devices(config.device, "device")
    with working("evaluating") as status:
        page, _ = evaluate_models(config, device, progress_of(status))
    say((out / MARKDOWN_NAME).read_text(encoding="utf-8"))
    say(f"Page: {page}")
    return EXIT_OK


def predict(options: Options) -> int:
    """Score a video, and print the score with a warning about its limits."""
    with working("loading PyTorch"):
        from flows.config.preprocess import validate
        from flows.config.training import PredictConfig
        from flows.run.prediction import PREDICTION_NAME, summary
        from flows.run.prediction import predict as predict_video
    out = options.out or Path(f"{options.video.name}.scores")  # a dataset's folder is not written to
    values = {"checkpoint": options.checkpoint, "video": options.video, "out": out, "device": options.device}
    config = validate(PredictConfig, values)
    if (config.out / PREDICTION_NAME).exists():  # of this video, or of another one of the same name
        complain(f"{config.out}: replaces the prediction in it; `predict --out` names another folder")
    for line in summary(predict_video(config)):
        say(line)
    return EXIT_OK
