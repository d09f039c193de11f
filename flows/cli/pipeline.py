"""The command `run`: the whole pipeline, from a dataset to an evaluated model."""

from __future__ import annotations

from collections.abc import Iterator

from flows.cli.command import CONFIG, Command, Options, flag, setting
from flows.cli.console import say, working
from manifests.errors import EXIT_OK

EXAMPLES = """\
examples:
  faceshards run --set preprocess.dataset.root=data/ffpp --set preprocess.out=stores/ffpp --set train.run=runs/ffpp
  faceshards run --config pipeline.yaml --set train.trainer.epochs=3

pipeline.yaml:
  download: {compressions: [c23]}       # leave it out if the dataset is on disk; needs --accept-terms
  preprocess:
    dataset: {name: ffpp, root: data/ffpp}
    out: stores/ffpp
  train:                                # leave it out to end with a verified store
    preset: m2tr
    run: runs/m2tr-ffpp
  evaluate: {perturbations: [jpeg]}     # optional, as are its settings
"""


def commands() -> Iterator[Command]:
    """Yield the command."""
    yield Command(
        "run",
        "download, preprocess, verify, train and evaluate; do only what has changed",
        run,
        CONFIG,
        setting("train.trainer.epochs=3"),
        flag("--accept-terms", "confirm that you have been granted access to FaceForensics++ and keep to its terms"),
        examples=EXAMPLES,
    )


def run(options: Options) -> int:
    """Run the pipeline, and print the outcome of each stage."""
    from flows.config.download import require_terms
    from flows.config.pipeline import load_pipeline_config
    from flows.run.preflight import preflight

    config = load_pipeline_config(options.config, options.set, {})
    if config.download is not None and options.accept_terms:
        config = load_pipeline_config(options.config, options.set, {"download": {"accept_terms": True}})
    if config.for_download is not None:
        require_terms(config.for_download)
    else:
        preflight(config.for_preprocess)
    with working("starting Prefect"):
        from flows.server.embedded import start_embedded_server

        start_embedded_server()
        from flows.pipeline import pipeline
        from tasks.workers.interrupts import interrupts_remembered
    with interrupts_remembered():
        outcomes = pipeline(config)
    for name, outcome in outcomes.items():
        say(f"{name:<11} {outcome}")
    return EXIT_OK
