"""The flow `pipeline`: from a dataset's server to an evaluated model.

1 download    fetch what is missing of the dataset            flows/download
2 preprocess  make or update the store                        flows/preprocess
3 verify      read every byte of the store                    flows/verify
4 train       train a model on the store                      flows/train
5 evaluate    evaluate the model, and write its page          flows/evaluate

Each stage is a flow of its own. A stage is skipped if it is left out of the settings, or if nothing that its result
depends on has changed since it finished: `pipeline.json` in the store's folder holds a digest of that for each stage.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.config.download import DownloadConfig
from flows.config.pipeline import PipelineConfig, contents_of
from flows.download import Account, download_ffpp
from flows.evaluate import evaluate_model
from flows.preprocess import preprocess_ffpp
from flows.run.steps import Steps
from flows.run.task_runs import enable_own_loggers
from flows.train import TrainedModel, train_m2tr
from flows.verify import VerifyConfig, verify_stores
from manifests.files import sha256_of, write_atomically
from storage.files.layout import INDEX_NAME
from storage.pages.markdown import escaped, table
from training.config import EvaluateConfig, TrainConfig
from training.run_folder import MODEL_NAME, read_state, require_same_run

logger = logging.getLogger(__name__)

Config = TypeVar("Config")
Result = TypeVar("Result")

FINISHED_NAME = "pipeline.json"
NOT_WANTED = "not in the settings"
PAGE_NAME = "evaluation.html"  # of training.evaluation.report.write, whose import takes seconds


@flow(name="pipeline", flow_run_name="{config.preprocess.out.name}", persist_result=False)
def pipeline(config: PipelineConfig) -> dict[str, str]:
    """Fetch, preprocess, verify, train and evaluate; do only what has changed.

    Args:
        config: the settings of all stages.

    Returns:
        The outcome of each stage, for a person.

    Raises:
        FaceshardsError: a stage failed, as its own flow does; the next run resumes there.
    """
    enable_own_loggers()
    store = config.preprocess.out
    stages = Stages(store / FINISHED_NAME)
    stages.take("download", download_ffpp, config.for_download, fetched, facts_of_download)
    stages.take("preprocess", preprocess_ffpp, config.for_preprocess, stored)
    verify = VerifyConfig(stores=(store,)) if config.verify else None
    stages.take("verify", verify_stores, verify, lambda _: "no faults", facts_of_store)
    training = config.for_train()
    stages.take("train", train_m2tr, training, trained, facts_of_training)
    model = training.run / MODEL_NAME if training and facts_of_training(training) else None
    why_not = "no model is finished" if config.evaluate else NOT_WANTED
    stages.take("evaluate", evaluate_model, config.for_evaluate(model), str, facts_of_evaluation, why_not)
    rows = [(name, escaped(outcome)) for name, outcome in stages.outcomes.items()]
    text = "\n".join(table(("stage", "outcome"), "l", rows))
    create_markdown_artifact(text, key="pipeline-summary", description=str(store))
    return stages.outcomes


class Stages:
    """The stages of one run of the pipeline.

    Args:
        path: file with a digest for each stage that has finished, by name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps = Steps()
        self.outcomes: dict[str, str] = {}

    def take(
        self,
        name: str,
        stage: Callable[[Config], Result],
        config: Config | None,
        in_words: Callable[[Result], str],
        facts: Callable[[Config], object] = lambda _: None,
        why_not: str = NOT_WANTED,
    ) -> None:
        """Run a stage, or show it as skipped.

        Args:
            name: the stage.
            stage: its flow.
            config: its settings; None: there is nothing to run.
            in_words: describes what the flow returned.
            facts: what decides the result, as plain values; None while there is no result, or if it is always checked.
            why_not: why there are no settings.
        """
        if config is None:
            self._skip(name, why_not)
            return
        if (digest := _digest(facts(config))) and digest == self._finished().get(name):
            self._skip(name, "nothing has changed")
            return
        self.outcomes[name] = in_words(self._steps.subflow(stage, config))
        if digest := _digest(facts(config)):
            finished = self._finished() | {name: digest}
            write_atomically(self._path, (json.dumps(finished, indent=2) + "\n").encode())

    def _skip(self, name: str, why: str) -> None:
        self._steps.skip(name, why)
        self.outcomes[name] = f"skipped: {why}"

    def _finished(self) -> dict[str, str]:
        """Return the digest of each finished stage; a file that cannot be read costs time only."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _digest(facts: object) -> str | None:
    if facts is None:
        return None
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def facts_of_download(config: DownloadConfig) -> object:
    """Return the settings and the number of files: a deleted file is fetched again."""
    num_files = sum(path.is_file() for path in config.out.rglob("*"))
    return [config.model_dump(mode="json"), num_files]


def facts_of_store(config: VerifyConfig) -> object:
    """Return the digest of each index, which holds those of all shards."""
    return [sha256_of(store / INDEX_NAME) for store in config.stores]


def facts_of_training(config: TrainConfig) -> object:
    """Return the settings and the contents of the stores; None while the run is not finished.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    require_same_run(config)
    state = read_state(config.run)
    if state is None or not state.is_complete(config.trainer.epochs) or not (config.run / MODEL_NAME).exists():
        return None
    return [config.model_dump(mode="json"), contents_of(config.stores)]


def facts_of_evaluation(config: EvaluateConfig) -> object:
    """Return the settings, the models and the contents of the stores; None while there is no page."""
    if not (config.out / PAGE_NAME).exists() or not all(path.exists() for path in config.checkpoints):
        return None
    models = [sha256_of(path) for path in config.checkpoints]
    return [config.model_dump(mode="json"), models, contents_of(config.stores)]


def fetched(account: Account) -> str:
    """Return the outcome of the download in words."""
    return f"{account['num_fetched']:,} of {account['num_planned']:,} files fetched, the others were there"


def stored(totals: dict[str, Any]) -> str:
    """Return the outcome of the preprocessing in words."""
    counts = f"{totals['num_stored']:,} videos stored, {totals['num_rejected']:,} rejected"
    if totals["videos_processed"] == totals["videos_changed"] == 0:
        return f"nothing has changed: {counts}"
    return f"{counts}; {totals['videos_processed']:,} processed by this run"


def trained(model: TrainedModel) -> str:
    """Return the outcome of the training in words."""
    return f"{model['in_a_line']}: {model['model']}"
