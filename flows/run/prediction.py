"""Prediction for one video: the stages that made the training crops of a model, then the model.

OUT/
├── prediction.json   score of each frame, threshold, verdict, warning
├── scores.png        scores over time
└── annotated.mp4     scored frames with the box and the score of the face
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from flows.config.preprocess import merged, validate
from flows.config.store_config import values_of_store
from flows.config.training import PredictConfig
from flows.run.preflight import require_models
from manifests.entry import VideoEntry
from manifests.errors import ConfigError, VideoRejected
from manifests.files import write_atomically
from manifests.probe.probe import probe
from manifests.rejected import Stage
from storage.format.encoding import decode_record
from storage.format.record import Record
from storage.index import JsonObject
from tasks.decode import AUTO_DECODER
from tasks.implementation import with_paths
from tasks.settings import DecodeSettings, StageSettings
from tasks.video.context import VideoContext
from tasks.video.frames import FrameSource
from tasks.video.job import VideoJob
from tasks.video.stages import Models, Stages
from tasks.video.video import VideoResult, process_video
from tasks.workers.devices import resolve_devices

if TYPE_CHECKING:
    from torch import nn

WARNING = (
    "A score tells how closely the face resembles the forgeries that the model was trained on. With another method or "
    "another compression, a forgery may score low and a real video high: the score is no proof of either."
)
PREDICTION_NAME, PLOT_NAME, CLIP_NAME = "prediction.json", "scores.png", "annotated.mp4"
MAX_CLIP_SIDE_PX = 960  # longer side of the annotated clip
CLIP_FPS = 8  # slower than the video, since scored frames are a sample of it
DEFAULT_THRESHOLD = 0.5
# What would not have been rejected by a stage; all others look for the face.
EXPECTED: dict[Stage | None, str] = {Stage.SAMPLE: "a longer video", Stage.DECODE: "a video that can be decoded"}
REAL_RGB, FAKE_RGB = (40, 160, 80), (200, 40, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScore:
    """The score of one frame, or of one clip, which its first frame stands for."""

    frame_index: int
    """Position in the whole video, 0-based."""

    pts_seconds: float
    """Presentation time in seconds."""

    p_fake: float
    """0..1, probability of fake."""

    box_xyxy: tuple[float, float, float, float]
    """Box of the face, pixels of the full frame."""

    interpolated: bool
    """Whether the box is interpolated: no face was detected in this frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Scores of one video by one model."""

    video: str
    """File name of the video."""

    model: str
    """Name of the model."""

    trained_on: tuple[str, ...]
    """Names of the training datasets."""

    threshold: float
    """0..1, score from which a video is called fake."""

    p_fake: float
    """0..1, mean over the frames."""

    verdict: str
    """`fake` or `real`, by the threshold: see `warning`."""

    decoder: str
    """Name of the decoder: that of the training crops, or the default one where that one cannot decode the video."""

    warning: str
    """Limits of the score, for the reader."""

    frames: tuple[FrameScore, ...]
    """Scores in order of time."""

    out: str
    """Folder of scores, plot and clip."""


def predict(config: PredictConfig) -> Prediction:
    """Score the main face of a video; write scores, plot and annotated clip.

    Args:
        config: the settings of the prediction; the settings of the stages come from the model file.

    Raises:
        ConfigError: the model file, the video or the device cannot be used.
        StageMissing: the stages need a package or a weight file that is missing.
    """
    from training.models.checkpoint import load_model

    checkpoint, video, out_dir = config.checkpoint, config.video, config.out
    if not video.is_file():
        raise ConfigError(f"video: got {video}, expected a file")
    model, about = load_model(checkpoint)
    if not about.crops:
        raise ConfigError(
            f"checkpoint {checkpoint}: got a model without settings of its crops, expected a model.pt from "
            "`faceshards train`"
        )
    settings = stages_of(about.crops)
    require_models(settings)
    (device, *_) = resolve_devices(config.device, "device")
    job = job_of(video)
    result, stages = processed(job, settings, Models.load(settings, device))
    if result.row.status == "rejected":
        expected = EXPECTED.get(result.row.stage, "a video that shows a face")
        raise ConfigError(f"video {video}: got {result.row.reason}: {result.row.detail}; expected {expected}")
    records = [decode_record(value, key) for key, value in result.records]
    frames = tuple(_frame_scores(model, about.img_size, about.clip_length, records, device))
    threshold = DEFAULT_THRESHOLD if about.threshold is None else about.threshold
    p_fake = float(np.mean([frame.p_fake for frame in frames]))
    prediction = Prediction(
        video=video.name,
        model=about.name,
        trained_on=about.trained_on,
        threshold=threshold,
        p_fake=p_fake,
        verdict="fake" if p_fake >= threshold else "real",
        decoder=stages.settings.decode.backend,
        warning=WARNING,
        frames=frames,
        out=str(out_dir),
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(out_dir / PREDICTION_NAME, (json.dumps(asdict(prediction), indent=2) + "\n").encode())
    write_atomically(out_dir / PLOT_NAME, _plot(prediction))
    source = VideoContext(job=job, stages=stages).source
    _write_clip(out_dir / CLIP_NAME, source, job.entry, prediction)
    return prediction


def processed(job: VideoJob, settings: StageSettings, models: Models) -> tuple[VideoResult, Stages]:
    """Process a video with the decoder of the training crops; if it cannot decode the video, with the default one."""
    stages = Stages.load(settings, models)
    result = process_video(job, stages)
    if result.row.stage != Stage.DECODE or settings.decode.backend == AUTO_DECODER:
        return result, stages
    default = DecodeSettings(timeout_s=settings.decode.timeout_s)
    stages = Stages.load(settings.model_copy(update={"decode": default}), models)
    return process_video(job, stages), stages


def summary(prediction: Prediction) -> Iterator[str]:
    """Yield the result as lines for the terminal."""
    lowest, highest = (bound(frame.p_fake for frame in prediction.frames) for bound in (min, max))
    yield (
        f"{prediction.video}: {prediction.p_fake:.3f} on average over {len(prediction.frames)} scores "
        f"({lowest:.3f} to {highest:.3f}); called fake from {prediction.threshold:.3f}: {prediction.verdict}"
    )
    yield f"Trained on: {', '.join(prediction.trained_on) or 'unknown'}. {prediction.warning}"
    yield f"Results: {prediction.out} ({PREDICTION_NAME}, {PLOT_NAME}, {CLIP_NAME})"


def stages_of(crops: JsonObject) -> StageSettings:
    """Return the settings of the stages that made the crops of a store.

    Args:
        crops: configuration of the store, as in `StoreIndex.config`.

    Raises:
        ConfigError: the crops were made with a custom file, such as a mean face, that is missing, or with a value that
            is no longer allowed.
    """
    known = values_of_store(StageSettings.model_fields, {}, crops, {})
    # A single video has no original to share geometry with.
    one_video: dict[str, object] = {"track": {"reuse_geometry": False, "max_tracks": 1}, "masks": "none"}
    return with_paths(validate(StageSettings, merged(known, one_video)), _require_file)


def _require_file(name: str, path: Path) -> Path:
    """Return a path that a setting names; a store keeps a digest in its place.

    Raises:
        ConfigError: there is no file.
    """
    if not path.is_file():
        raise ConfigError(f"{name}: got {path}, expected the file that the training crops were made with")
    return path


def job_of(video: Path) -> VideoJob:
    """Probe a video; return its job.

    Raises:
        ConfigError: the file is not a video.
    """
    entry = VideoEntry(
        video_id=f"own/{video.stem}",
        path=video.name,
        dataset="own",
        label="real",  # unknown, and not used
        target_id=video.stem,
        group_id=video.stem,
        split="test",
    )
    try:
        entry = probe(video.parent, entry)
    except VideoRejected as rejection:
        raise ConfigError(f"video {video}: got {rejection.reason}: {rejection.detail}; expected a video") from rejection
    return VideoJob(root=video.parent, entry=entry, config_digest="")


def _frame_scores(
    model: nn.Module, img_size: int, clip_length: int | None, records: Sequence[Record], device: str
) -> Iterator[FrameScore]:
    """Yield the score of each frame, or of each clip; p_fake is clipped to 0..1.

    Raises:
        ConfigError: a clip has another length than those of training.
    """
    import torch

    from training.data.augment import resize_crops
    from training.data.batch import normalise
    from training.evaluation.scoring import probabilities

    model.to(device).eval()
    for record in records:
        if clip_length is not None and record.num_frames != clip_length:
            raise ConfigError(f"clips: got {record.num_frames} frames, expected {clip_length} as in training")
        pixels = torch.from_numpy(resize_crops(record.crops, img_size)).permute(0, 3, 1, 2).to(device)
        images = normalise(pixels)
        found = 1.0 - probabilities(model, images if clip_length is None else images[None])[:, 0]
        for row, p_fake in enumerate(found.tolist()):
            yield FrameScore(
                frame_index=int(record.frame_indices[row]),
                pts_seconds=float(record.pts_seconds[row]),
                p_fake=min(max(p_fake, 0.0), 1.0),
                box_xyxy=tuple(record.boxes_xyxy[row].tolist()),
                interpolated=bool(record.interpolated[row]),
            )


def _plot(prediction: Prediction) -> bytes:
    """Return the plot of scores over time as PNG."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    seconds = [frame.pts_seconds for frame in prediction.frames]
    axes.plot(seconds, [frame.p_fake for frame in prediction.frames], marker="o", markersize=3, linewidth=1)
    axes.axhline(prediction.threshold, linestyle="--", linewidth=1, color="grey", label="threshold")
    axes.set(
        xlabel="seconds", ylabel="score, 1 = fake", ylim=(-0.02, 1.02), title=f"{prediction.video} ({prediction.model})"
    )
    axes.legend(loc="upper right", fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _write_clip(path: Path, source: FrameSource, entry: VideoEntry, prediction: Prediction) -> None:
    """Write the scored frames with box and score as H.264 video."""
    import av

    by_frame = {frame.frame_index: frame for frame in prediction.frames}
    indices = np.array(sorted(by_frame), dtype=np.int64)
    scale = min(1.0, MAX_CLIP_SIDE_PX / max(entry.width or 1, entry.height or 1))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (entry.width or 2, entry.height or 2))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(CLIP_FPS), options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for batch, _ in source.batches(indices, with_masks=False):
            for image, number in zip(batch.data, batch.frame_indices.tolist(), strict=True):
                drawn = _annotated(image, by_frame[number], prediction.threshold)
                shrunk = np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shrunk, format="rgb24")))
        container.mux(stream.encode())


def _annotated(image: npt.NDArray[np.uint8], frame: FrameScore, threshold: float) -> npt.NDArray[np.uint8]:
    """Return the (H,W,3) uint8 RGB frame with the box and the score of its face."""
    drawn = image.copy()
    colour = FAKE_RGB if frame.p_fake >= threshold else REAL_RGB
    left, top, right, bottom = (round(value) for value in frame.box_xyxy)
    thickness = max(2, image.shape[1] // 320)
    cv2.rectangle(drawn, (left, top), (right, bottom), colour, thickness)
    text = f"{frame.p_fake:.2f}" + (" (no face detected)" if frame.interpolated else "")
    size = image.shape[1] / 900
    cv2.putText(drawn, text, (left, max(20, top - 8)), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)
    return drawn
