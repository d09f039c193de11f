"""Worker process: loads the stages at its first video and processes one video at a time."""

from __future__ import annotations

import logging
import os

from manifests.errors import FaceshardsError
from manifests.rejected import Reason, Rejected, Stage
from tasks.settings import StageSettings
from tasks.video.job import Tally, VideoJob
from tasks.video.stages import Models, Stages
from tasks.video.video import VideoResult, process_video
from tasks.workers import deadline, watchdog
from tasks.workers.gpu_client import NetworkClient, remote_models
from tasks.workers.interrupts import end_with_parent

logger = logging.getLogger(__name__)

# Set once in each worker process by `start_worker`, filled by the first job.
_worker_settings: tuple[StageSettings, str, str | None, int | None] | None = None
_worker_stages: Stages | None = None


def start_worker(
    settings: StageSettings, device: str, address: str | None = None, max_bytes: int | None = None
) -> None:
    """Prepare a fresh worker process.

    Args:
        settings: settings of the stages.
        device: device of the networks.
        address: address of a process with the networks; None: they are loaded here.
        max_bytes: memory that one video may need, beside the models; None: any.
    """
    global _worker_settings  # noqa: PLW0603 - Pebble's initializer can hand nothing to the jobs of its process
    end_with_parent()
    # The workers run in parallel: more threads in each would only compete for the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    _worker_settings = settings, device, address, max_bytes


def run_job(job: VideoJob) -> VideoResult:
    """Process one video in a worker. This is the only place where any failure of a video becomes a recorded rejection.

    Raises:
        FaceshardsError: the installation or the configuration is faulty, so that every other video would fail.
    """
    stages = _stages()
    try:
        return process_video(job, stages, time_limit=deadline.end_process_after)
    except FaceshardsError:
        raise
    except Exception as error:
        logger.exception("%s: unexpected failure", job.entry.video_id)
        return rejected(job, Stage.DETECT, Reason.CRASHED, f"unexpected {type(error).__name__}: {error}")


def _stages() -> Stages:
    """Return the worker's stages, loaded at the first job."""
    global _worker_stages  # noqa: PLW0603 - models are loaded once in a process
    if _worker_settings is None:
        raise RuntimeError("worker: got a job before start_worker ran, expected Pebble's initializer to have run")
    if _worker_stages is None:
        import cv2

        settings, device, address, max_bytes = _worker_settings
        cv2.setNumThreads(1)
        _worker_stages = Stages.load(settings, _models(settings, device, address), max_bytes)
        if max_bytes is not None:
            watchdog.end_process_above(max_bytes)
    return _worker_stages


def _models(settings: StageSettings, device: str, address: str | None) -> Models:
    """Return the models: networks of this process, or those at an address."""
    if address is not None:
        return remote_models(settings, NetworkClient(address))
    import torch

    torch.set_num_threads(1)
    return Models.load(settings, device)


def rejected(job: VideoJob, stage: Stage, reason: Reason, detail: str) -> VideoResult:
    """Return the result of a video that was rejected outside the stages; only the reason is known."""
    row = Tally().row(job)
    rejected = Rejected(video_id=job.entry.video_id, stage=stage, reason=reason, detail=detail)
    return VideoResult(row=row.as_rejected(rejected))
