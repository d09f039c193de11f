from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from manifests.errors import UserError
from training.evaluation.perturbations.perturb import PERTURBATIONS
from training.evaluation.published import PUBLISHED, beside_published, percent, published_markdown, published_robustness
from training.evaluation.report.figures import CSS_VARIABLES, draw_figures
from training.evaluation.report.markdown import evaluation_markdown, remarks
from training.evaluation.report.page import HEADS
from training.evaluation.report.write import read_evaluation, write_evaluation
from training.evaluation.results import (
    CurvePoint,
    Evaluation,
    Example,
    confusable,
    cross_dataset,
    robustness_row,
    summarise,
)
from training.evaluation.scores import Scores, read_scores, scores_from_columns, to_videos
from training.evaluation.statistics.metrics import METRICS


def made(
    dataset: str = "ffpp", compression: str | None = "c23", *, num_videos: int = 24, damage: float = 0.0
) -> Scores:
    """Videos of three frames, every second one a fake; more damage, more noise."""
    rng = np.random.default_rng(5)
    video = np.repeat(np.arange(num_videos), 3)
    label = video % 2
    logit = (2 * label - 1) * (1.5 - damage) + rng.normal(size=len(label))
    return scores_from_columns(
        {
            "key": [f"{dataset}/{v}/00/{n:06d}" for n, v in enumerate(video)],
            "dataset": [dataset] * len(label),
            "video_id": [f"{dataset}/{v}" for v in video],
            "track_id": [0] * len(label),
            "frame_index": np.arange(len(label)),
            "manipulation": ["<b>Deep&fakes</b>" if fake else None for fake in label],
            "compression": [compression] * len(label),
            "label": label,
            "p_fake": 1.0 / (1.0 + np.exp(-logit)),
        }
    )


@pytest.fixture(scope="module")
def scores() -> Scores:
    return made()


@pytest.fixture(scope="module")
def evaluation(scores: Scores) -> Evaluation:
    about = {"model": "m2tr", "checkpoint": "runs/<i>last</i>.ckpt"}
    return summarise(scores, threshold=0.4, seed=1, about=about, missing_videos=(1, 0), num_resamples=50)


class Tags(HTMLParser):
    """Collects ids, links and whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")


@pytest.fixture(scope="module")
def out_dir(tmp_path_factory: pytest.TempPathFactory, scores: Scores, evaluation: Evaluation) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    jpeg = cv2.imencode(".jpg", np.full((16, 16, 3), 90, dtype=np.uint8))[1].tobytes()
    examples = [
        Example(key=scores.key[row], label=label, p_fake=float(scores.p_fake[row]), kind="real", jpeg=jpeg)
        for label, rows in enumerate(confusable(scores, 2))
        for row in rows
    ]
    robustness = [robustness_row("m2tr", "none", 0, None, scores)]
    robustness += [
        robustness_row("m2tr", "noise", 1, 5.0, made(damage=0.5)),
        robustness_row("m2tr", "noise", 2, 10.0, made(damage=1.2)),
    ]
    write_evaluation(
        folder,
        evaluation,
        scores,
        examples=examples,
        curves=[
            CurvePoint(step=step, name=name, value=1.0 / step) for step in (1, 2) for name in ("train/loss", "val/loss")
        ],
        cam_sheets={"fakes": jpeg},
        robustness=robustness,
        strips={"noise": jpeg},
        cross=cross_dataset({"ffpp": evaluation}),
    )
    return folder


def test_everything_is_there_and_can_be_read_again(out_dir: Path, scores: Scores, evaluation: Evaluation) -> None:
    names = {path.name for path in out_dir.iterdir()}
    assert names == {
        "evaluation.json",
        "scores.parquet",
        "videos.parquet",
        "evaluation.md",
        "evaluation.html",
        "figures",
    }
    assert read_evaluation(out_dir / "evaluation.json") == evaluation
    assert read_scores(out_dir / "videos.parquet").p_fake.tolist() == to_videos(scores).p_fake.tolist()
    assert len(json.loads((out_dir / "evaluation.json").read_text())["robustness"]) == 3


def test_the_page_stands_alone(out_dir: Path) -> None:
    page = (out_dir / "evaluation.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in tags.links)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link[1:] for link in tags.links if link.startswith("#")} <= set(tags.ids)
    assert page.count("<img ") == 4 + 1 + 1  # examples, a sheet of Grad-CAM, a strip of levels
    assert "Gaussian noise: 5 · 10</figcaption>" in page


def test_names_cannot_become_tags(out_dir: Path) -> None:
    page = (out_dir / "evaluation.html").read_text()
    assert "&lt;b&gt;Deep&amp;fakes&lt;/b&gt;" in page
    assert "<b>Deep" not in page
    assert "<i>" not in page
    assert r"\<b\>Deep&fakes" in (out_dir / "evaluation.md").read_text()


def test_plots_take_the_pages_colours_and_keep_their_own_as_files(out_dir: Path) -> None:
    page = (out_dir / "evaluation.html").read_text()
    inlined = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert inlined.count("<svg") == 6
    assert not [colour for colour in CSS_VARIABLES if colour in inlined]
    assert "var(--ink)" in inlined
    names = {path.stem for path in (out_dir / "figures").iterdir()}
    assert names == {"roc", "histograms", "confusion", "calibration", "training", "robustness"}
    assert "var(" not in (out_dir / "figures" / "roc.svg").read_text()
    assert all(page.count(f" {variable}:") == 3 for variable in CSS_VARIABLES.values())  # light, dark, print


def test_the_same_scores_give_the_same_bytes(
    out_dir: Path, scores: Scores, evaluation: Evaluation, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_evaluation(tmp_path / name, evaluation, scores)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_values_by_hand(evaluation: Evaluation, scores: Scores) -> None:
    videos = to_videos(scores)
    assert (evaluation.num_frames, evaluation.num_videos) == (72, 24)
    right = ((videos.p_fake >= 0.5) == (videos.label == 1)).sum()
    assert evaluation.missing is not None
    assert evaluation.missing.accuracy_if_wrong == pytest.approx(right / 25)
    assert [(found.level, found.threshold) for found in evaluation.confusions] == [
        ("frame", 0.5),
        ("frame", 0.4),
        ("video", 0.5),
        ("video", 0.4),
    ]
    assert sum(found.count for found in evaluation.calibrations["frame"]) == 72


def test_remarks_say_what_is_not_counted(evaluation: Evaluation, scores: Scores) -> None:
    assert any("1 real and 0 fake videos have no crop" in sentence for sentence in remarks(evaluation))
    other = summarise(scores, threshold=None, seed=0, num_resamples=0)
    text = " ".join(remarks(other))
    assert "No threshold" in text
    assert "not known" in text
    assert "resamples" not in text


@pytest.mark.parametrize("kept", [0, 1, None])
def test_an_evaluation_of_one_class_or_of_nothing_is_still_written(
    tmp_path: Path, scores: Scores, kept: int | None
) -> None:
    some = scores.where(scores.label == (7 if kept is None else kept))
    found = summarise(some, threshold=0.5, seed=0)
    page = write_evaluation(tmp_path / "out", found, some).read_text()
    assert "Receiver" not in page
    assert read_evaluation(tmp_path / "out" / "evaluation.json") == found
    if kept is not None:
        reason = f"only {'fakes' if kept else 'reals'}: it takes both"
        assert found.groups[0].figures["auc"].reason == reason
        assert ">AUC</abbr>" not in page


def test_several_classes_have_their_place(tmp_path: Path, scores: Scores) -> None:
    p = scores.p_fake
    columns = {
        name: getattr(scores, name)
        for name in (
            "key",
            "dataset",
            "video_id",
            "track_id",
            "frame_index",
            "manipulation",
            "compression",
            "label",
            "p_fake",
        )
    }
    classes = {
        "class_names": ("Real", "Face2Face", "Deepfakes"),
        "class_label": 2 * scores.label,
        "class_probabilities": np.stack([1 - p, p / 4, 3 * p / 4], axis=1),
    }
    several = scores_from_columns(columns | classes)
    found = summarise(several, threshold=None, seed=0, num_resamples=20)
    page = write_evaluation(tmp_path / "out", found, several).read_text()
    assert found.classes[0].macro_auc.reason == "no row of class Face2Face: it takes every class"
    assert "Macro AUC" in page
    assert (tmp_path / "out" / "figures" / "classes.svg").is_file()
    assert read_evaluation(tmp_path / "out" / "evaluation.json") == found


def test_confusable_takes_the_worst_frame_of_each_video(scores: Scores) -> None:
    reals, fakes = confusable(scores, 5)
    assert scores.label[reals].tolist() == [0] * 5
    assert scores.label[fakes].tolist() == [1] * 5
    assert len(set(scores.video_id[reals])) == 5
    assert scores.p_fake[reals[0]] == scores.p_fake[scores.label == 0].max()
    assert (np.diff(scores.p_fake[fakes]) >= 0).all()


def test_cross_dataset_matrix_has_a_place_for_what_was_not_tested(evaluation: Evaluation) -> None:
    other = summarise(made("celeb_df", None), threshold=None, seed=0, num_resamples=0)
    found = cross_dataset({"ffpp c23": evaluation, "celeb_df": other})
    assert (found.rows, found.columns) == (("ffpp c23", "celeb_df"), ("celeb_df", "ffpp"))
    assert found.figures[0][0].reason == "not tested on it"
    assert found.figures[0][1] == evaluation.groups[2].figures["auc"]
    with pytest.raises(ValueError, match="metric: got 'AUC'"):
        cross_dataset({}, metric="AUC")


def test_published_figures_stand_beside_ours(evaluation: Evaluation) -> None:
    lines = beside_published("m2tr", evaluation.groups)
    assert {line.data for line in lines} == {"FF++ c23"}
    assert [line.level for line in lines if not line.source] == ["frame", "video"]
    text = published_markdown(lines)
    assert "| FF++ c23 | M2TR | – | 97.93 | 99.51 | arXiv 2104.09770 |" in text
    assert "| FF++ c23 | M2TR | – | 91.90 | – |" in text
    assert text.count("**m2tr**") == 2
    assert len([line for line in beside_published("m2tr", []) if line.source]) == len(
        [found for found in PUBLISHED if found.perturbation is None]
    )
    assert [found.perturbation for found in published_robustness("m2tr")] == [None, "rotation", "noise", "blur", "crop"]
    assert {found.perturbation for found in PUBLISHED} - {None} <= set(PERTURBATIONS)
    assert published_robustness("m2tr (runs/a)") == published_robustness("M2TR")
    assert published_robustness("resnet50") == []


def test_markdown_has_both_levels_and_the_robustness(evaluation: Evaluation, scores: Scores) -> None:
    text = evaluation_markdown(evaluation, [robustness_row("m2tr", "none", 0, None, scores)])
    auc = next(group for group in evaluation.groups if group.level == "video").figures["auc"]
    assert percent(auc) in text
    assert "## By frame" in text
    assert "| none | 0 | – |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ffpp")}
    assert len(widths) == 1


def test_every_metric_has_a_head() -> None:
    assert list(HEADS) == list(METRICS)


def test_a_roc_of_many_frames_stays_small(evaluation: Evaluation) -> None:
    many = made(num_videos=4000)
    plots = {plot.name: plot for plot in draw_figures(evaluation, many, to_videos(many))}
    assert len(plots["roc"].svg) < 100_000


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"about": 3}')
    with pytest.raises(UserError, match="expected an evaluation"):
        read_evaluation(tmp_path / "evaluation.json")
