"""Training in two processes is training in one: the same items in each step, the same curve, the same model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from manifests.errors import ConfigError
from tests.helpers.stores import write_forgeries
from training.config import TrainConfig
from training.fit.train import train
from training.models.checkpoint import load_model
from training.run_folder import MODEL_NAME, read_curve

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def configured(store: Path, run: Path, batch_size: int, devices: int, **trainer: Any) -> TrainConfig:
    """A network without batch statistics or dropout, so that nothing but the items makes a step what it is."""
    return TrainConfig.model_validate(
        {
            "stores": [store],
            "run": run,
            "model": {"name": "test_vit", "img_size": 32},
            "data": {"batch_size": batch_size, "workers": 0, "augment": "flip", "balance": "class"},
            "loss": {"weights": [1.0, 0.0, 0.0]},
            "optim": {"kind": "sgd", "lr": 0.05, "schedule": "cosine"},
            "trainer": {"epochs": 2, "accelerator": "cpu", "devices": devices, **trainer},
        }
    )


def points(run: Path) -> list[tuple[int, str]]:
    return [(point["step"], point["name"]) for point in read_curve(run)]


def test_two_processes_stopped_and_started_again_are_one_process(tmp_path: Path) -> None:
    store = write_forgeries(tmp_path / "store")
    alone, together = tmp_path / "alone", tmp_path / "together"
    train(configured(store, alone, 8, 1))
    stopped = train(configured(store, together, 4, 2, max_minutes=1e-6))
    assert (stopped.num_steps, stopped.is_complete) == (1, False)
    result = train(configured(store, together, 4, 2))
    assert result.is_complete
    assert result.num_steps == 2 * 48 // 8
    assert points(together) == points(alone), "each point once"
    for one, other in zip(read_curve(together), read_curve(alone), strict=True):
        assert math.isclose(one["value"], other["value"], rel_tol=1e-3, abs_tol=1e-4), one
    first, second = (load_model(run / MODEL_NAME)[0].state_dict() for run in (alone, together))
    assert all(torch.allclose(first[key], second[key], atol=1e-4) for key in first)
    with pytest.raises(ConfigError, match=r"trainer\.devices: got 1 processes, expected 2"):
        train(configured(store, together, 4, 1, epochs=3))
