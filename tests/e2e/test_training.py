"""From a dataset to an evaluated model: preprocess, train, evaluate, predict, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli.parser import main
from flows.config.training import PredictConfig, load_train_config
from flows.evaluate import evaluate_model
from flows.predict import predict_video
from flows.preprocess import preprocess_ffpp
from flows.train import train_m2tr
from tests.helpers.processes import QUICK as QUICK_RUN
from tests.helpers.processes import setting_words
from training.config import EvaluateConfig

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

Configure = Callable[..., Any]
QUICK = ("model.name=test_resnet", "model.img_size=64", "trainer.epochs=1", "data.workers=1", "loss.weights=[1,0,0]")


@pytest.fixture(scope="module")
def store(miniature: Path, tmp_path_factory: pytest.TempPathFactory, configure: Configure) -> Path:
    """A store of the miniature: one pair for training, one for testing."""
    out = tmp_path_factory.mktemp("trained") / "store"
    preprocess_ffpp(configure(miniature, out, "split.ratios=[0.5, 0, 0.5]"))
    return out


def test_the_command_line_from_store_to_verdict(
    store: Path, miniature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, page_dir = tmp_path / "run", tmp_path / "page"
    settings = [word for assignment in QUICK for word in ("--set", assignment)]
    assert main(["train", str(store), "--preset", "m2tr-small", "--run", str(run), *settings]) == 0
    assert "Model: " in capsys.readouterr().out
    assert main(["train", str(store), "--preset", "m2tr-small", "--run", str(run), *settings]) == 0
    assert "it was finished before" in capsys.readouterr().out
    words = ["evaluate", str(run / "model.pt"), str(store), "--out", str(page_dir), "--workers", "0"]
    assert main([*words, "--explain-layer", "net.layer3", "net.layer4"]) == 0
    assert "Page: " in capsys.readouterr().out
    assert "fakes scored highest, layer net.layer3" in (page_dir / "evaluation.html").read_text()
    assert (page_dir / "evaluation.html").read_text().rstrip().endswith("</html>")

    video = next((miniature / "original_sequences/youtube/c23/videos").iterdir())
    assert main(["predict", str(run / "model.pt"), str(video), "--out", str(tmp_path / "scores")]) == 0
    said = capsys.readouterr().out
    assert "no proof" in said
    written = json.loads((tmp_path / "scores" / "prediction.json").read_text())
    assert [frame["frame_index"] for frame in written["frames"]] == sorted(
        frame["frame_index"] for frame in written["frames"]
    )
    assert len(written["frames"]) == 3
    assert all(0 <= frame["p_fake"] <= 1 for frame in written["frames"])
    assert (tmp_path / "scores" / "annotated.mp4").stat().st_size > 0
    assert (tmp_path / "scores" / "scores.png").stat().st_size > 0


@pytest.mark.long
def test_the_flows_of_training_evaluation_and_prediction(store: Path, miniature: Path, tmp_path: Path) -> None:
    training = load_train_config(
        None, list(QUICK), {"stores": [str(store)], "run": str(tmp_path / "run")}, "m2tr-small"
    )
    trained = train_m2tr(training)
    assert trained["num_steps"] > 0
    config = EvaluateConfig(
        checkpoints=(Path(trained["model"]),), stores=(store,), out=tmp_path / "page", workers=0, explain=False
    )
    assert Path(evaluate_model(config)).is_file()
    video = next((miniature / "original_sequences/youtube/c23/videos").iterdir())
    prediction = PredictConfig(checkpoint=Path(trained["model"]), video=video, out=tmp_path / "scores", device="cpu")
    assert len(predict_video(prediction).frames) == 3


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "nothing")]) == 2
    assert main(["evaluate", str(tmp_path / "model.pt"), str(tmp_path)]) == 2
    assert main(["evaluate", str(tmp_path / "model.pt"), str(tmp_path), "--device", "cuda:99"]) == 2
    (tmp_path / "video.mp4").write_text("no video")
    assert main(["predict", str(tmp_path / "model.pt"), str(tmp_path / "video.mp4")]) == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 4
    assert "device: got 'cuda:99', expected one of auto, cpu" in said
    assert "detect.device" not in said
    assert "Traceback" not in said


@pytest.mark.long
def test_the_whole_pipeline_and_again_with_nothing_to_do(
    miniature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = (f"dataset.root={miniature}", f"out={tmp_path}/store")
    words = [f"preprocess.{word}" for word in (*QUICK_RUN, *places, "split.ratios=[0.5, 0, 0.5]")]
    words += [f"train.{word}" for word in (*QUICK, f"run={tmp_path}/runs", "preset=m2tr-small")]
    words += ["evaluate.explain=false", "evaluate.workers=0"]
    command = ["run", *setting_words(*words)]
    assert main(command) == 0
    first = capsys.readouterr().out.splitlines()
    (model,) = tmp_path.glob("runs/store-*/model.pt")
    assert first[:3] == [
        "download    skipped: not in the settings",
        "preprocess  20 videos stored, 0 rejected; 20 processed by this run",
        "verify      no faults",
    ]
    assert first[3].endswith(f" steps; started from random weights: {model}")
    assert first[4] == f"evaluate    {model.parent}/evaluation/evaluation.html"

    assert main(command) == 0
    outcomes = ["nothing has changed: 20 videos stored, 0 rejected", *["skipped: nothing has changed"] * 3]
    assert [line[12:] for line in capsys.readouterr().out.splitlines()[1:]] == outcomes
