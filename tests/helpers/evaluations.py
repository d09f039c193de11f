"""Scores of made-up videos, for tests of evaluations."""

from __future__ import annotations

import numpy as np

from training.evaluation.scores import Scores, scores_from_columns


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
