from __future__ import annotations

from training.evaluation.published import beside_published
from training.evaluation.report.markdown import HEADS, evaluation_markdown, percent, published_table, remarks
from training.evaluation.results import (
    Evaluation,
    Extras,
    robustness_row,
    summarise,
)
from training.evaluation.scores import Scores
from training.evaluation.statistics.metrics import METRICS


def test_remarks_say_what_is_not_counted(evaluation: Evaluation, scores: Scores) -> None:
    assert any("1 real and 0 fake videos have no crop" in sentence for sentence in remarks(evaluation))
    other = summarise(scores, threshold=None, seed=0, num_resamples=0)
    text = " ".join(remarks(other))
    assert "No threshold" in text
    assert "not known" in text
    assert "resamples" not in text


def test_markdown_has_both_levels_and_the_robustness(evaluation: Evaluation, scores: Scores) -> None:
    text = evaluation_markdown(evaluation, Extras(robustness=[robustness_row("m2tr", "none", 0, None, scores)]))
    auc = next(group for group in evaluation.groups if group.level == "video").figures["auc"]
    assert percent(auc) in text
    assert "## By frame" in text
    assert "| none | 0 | – |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ffpp")}
    assert len(widths) == 1


def test_published_results_stand_beside_ours(evaluation: Evaluation) -> None:
    text = "\n".join(published_table(beside_published({"m2tr": evaluation.groups})))
    assert "| FF++ c23 | M2TR | – | 97.93 | 99.51 | arXiv 2104.09770 |" in text
    assert "| FF++ c23 | M2TR | – | 91.90 | – |" in text
    assert text.count("**m2tr**") == 2


def test_every_metric_has_a_head() -> None:
    assert list(HEADS) == list(METRICS)
