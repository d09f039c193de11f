"""Compare M2TR (training/models/m2tr.py) with a literal port of the published formulas: time and memory, as ratios.

    python -m benchmarks.m2tr [--batches 1 8] [--threads 2] [--repeats 3] [--flush] [--json FILE]
    python -m benchmarks.m2tr --tiny [--json FILE]
    python -m benchmarks.m2tr --device cuda [--json FILE]

The port implements the formulas as published; it is not a copy of the authors' files. It computes the whole matrix of
every attention by matmul and softmax, never by `scaled_dot_product_attention`, projects q, k and v one by one, keeps
maps as (B,C,H,W), and runs timm's EfficientNet in the style of its time, which the authors used, too: SAME padding
before each convolution, swish as x·σ(x). It keeps denormal numbers, torch's default; ours is measured with
`torch.set_flush_denormal(True)`, which `training/fit/train.py` sets. `--flush` sets it for the port too. Weights and
images follow a fixed rule that makes attention peaked, as training does. Port and ours must give the same logits before
anything is timed.

Each measurement is a process of its own, port and ours in turn. Seconds are the lowest of the repeats, by the clock and
of the processor (idle threads sleep, so processor time is valid on a busy machine, too). Memory is the peak of the
resident set above what the process held with the model and the images before the first run. The mask decoder is left
out.

`--tiny` runs everything once on crops of 64 pixels, in seconds: a check that it runs, whose ratios mean nothing.

With `--device cuda` it measures images per second of ours: batches of 8, 32 and 64, float32 and bfloat16 autocast.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.helpers.costs import answer_of, write_figures
from training.models.m2tr import (
    LEAN,
    M2TR,
    NEGATIVE_SLOPE,
    PATCHES_PER_SIDE,
    ConvUnit,
    CrossModalityFusion,
    FrequencyFilter,
    MultiScaleTransformer,
    Stage,
)
from training.models.official_m2tr import official_names

WAYS = ("port", "ours")
TASKS = ("forward", "step")  # a step: forward and backward
SEED = 20210420
IMG_SIZE = 320
TINY_SIZE = 64
MB = 1e6
SAME = 1e-4  # largest difference of the logits; kernels differ
BACKBONE_GAIN, GAIN = 1.2, 0.9  # of convolutions, by what keeps the signal alive through the network
CUDA_BATCHES = (8, 32, 64)
CUDA_WARMUPS, CUDA_RUNS = 5, 20


class PortTransformer(nn.Module):
    """The multi-scale transformer by its formulas, softmax(q·kᵀ/√d)·v, a matrix for each head."""

    def __init__(self, ours: MultiScaleTransformer) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H)."""
        ours, heads = self.ours, len(PATCHES_PER_SIDE)
        query, key, value = (conv(maps).chunk(heads, dim=1) for conv in (ours.query, ours.key, ours.value))
        mixed = []
        for head, per_side in enumerate(PATCHES_PER_SIDE):
            tokens = [to_tokens(part[head], per_side) for part in (query, key, value)]
            mixed.append(from_tokens(attend(*tokens), per_side, maps.shape[2] // per_side))
        maps = maps + ours.output(torch.cat(mixed, dim=1))
        fed: Tensor = ours.feed_forward(maps)
        return maps + fed


class PortFilter(nn.Module):
    """The frequency filter by its formula, channels last for the product."""

    def __init__(self, ours: FrequencyFilter) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H)."""
        spectrum = torch.fft.rfft2(maps.float(), dim=(2, 3), norm="ortho").permute(0, 2, 3, 1)
        spectrum = spectrum * torch.view_as_complex(self.ours.complex_weight)
        filtered = torch.fft.irfft2(spectrum.permute(0, 3, 1, 2), s=maps.shape[2:], dim=(2, 3), norm="ortho")
        fed: Tensor = self.ours.feed_forward(filtered)
        return maps + fed


class PortFusion(nn.Module):
    """The fusion by its formula: the matrix of all places against all places."""

    def __init__(self, ours: CrossModalityFusion) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, texture: Tensor, frequency: Tensor) -> Tensor:
        """Two (B,32,H,W) → (B,32,H,W)."""
        ours = self.ours
        query = ours.query(texture).flatten(2).transpose(1, 2)
        key = ours.key(frequency).flatten(2).transpose(1, 2)
        value = ours.value(frequency).flatten(2).transpose(1, 2)
        fused = attend(query, key, value).transpose(1, 2).reshape(texture.shape)
        made: Tensor = ours.output(fused)
        return texture + made


class PaddedConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, made before it; sides are even."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B,C,H,W) → (B,D,H/s,W/s) for a stride s of 1 or 2."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        before, behind = (kernel - stride) // 2, (kernel - stride + 1) // 2
        maps = F.pad(maps, (before, behind, before, behind))
        return F.conv2d(maps, self.weight, self.bias, self.stride, 0, 1, self.groups)


class PlainSwish(nn.SiLU):
    """x·σ(x), two tensors."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B,C,H,W) → (B,C,H,W)."""
        return maps * torch.sigmoid(maps)


class PlainUnit(ConvUnit):
    """Convolution, batch normalisation and LeakyReLU, one tensor each."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,W) → (B,32,H,W)."""
        return F.leaky_relu(self.norm(self.conv(maps)), NEGATIVE_SLOPE)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B,N,D) three times → (B,N,D), through the (B,N,N) matrix."""
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.shape[-1])
    return torch.matmul(F.softmax(scores, dim=-1), value)


def to_tokens(maps: Tensor, per_side: int) -> Tensor:
    """(B,C,H,H) → (B,N,C·p·p), patches row by row."""
    batch, channels, side, _ = maps.shape
    patch = side // per_side
    grid = maps.reshape(batch, channels, per_side, patch, per_side, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, per_side**2, channels * patch**2)


def from_tokens(tokens: Tensor, per_side: int, patch: int) -> Tensor:
    """(B,N,C·p·p) → (B,C,H,H)."""
    batch = len(tokens)
    grid = tokens.reshape(batch, per_side, per_side, -1, patch, patch)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, per_side * patch, per_side * patch)


def ported(model: M2TR) -> M2TR:
    """Put the port's parts into a model, with its own weights; maps are (B,C,H,W)."""
    plain = {ours: timms for timms, ours in LEAN.items()} | {ConvUnit: PlainUnit, nn.SiLU: PlainSwish}
    for module in model.modules():
        module.__class__ = plain.get(type(module), type(module))
    for module in model.backbone.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
            module.__class__ = PaddedConv
    for module in model.modules():
        if isinstance(module, Stage):
            module.transformer = PortTransformer(module.transformer)  # type: ignore[assignment]  # called in the same way
            module.frequency = PortFilter(module.frequency)  # type: ignore[assignment]  # called in the same way
            module.fusion = PortFusion(module.fusion)  # type: ignore[assignment]  # called in the same way
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.contiguous_format)
    model.memory_format = torch.contiguous_format
    return model


def value_for(key: str, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of a key of the authors' state dict: each key has its own random numbers."""
    rng = np.random.RandomState(crc32(key.encode()))
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last in ("running_mean", "bias"):
        values = 0.02 * rng.standard_normal(shape)
    elif last == "running_var":
        values = 0.5 + rng.random_sample(shape)
    elif last == "complex_weight":
        values = 0.7 * rng.standard_normal(shape)
    elif len(shape) == 1:
        values = 0.75 + 0.5 * rng.random_sample(shape)
    else:
        gain = BACKBONE_GAIN if key.startswith("model.") else GAIN
        values = gain * rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def filled(model: M2TR) -> M2TR:
    """Overwrite every tensor of a model by the rule."""
    state = model.state_dict()
    values = {ours: value_for(key, tuple(state[ours].shape)) for key, ours in official_names(model).items()}
    model.load_state_dict(values)
    return model


def make_images(batch: int, size: int = IMG_SIZE, seed: int = SEED) -> Tensor:
    """Return (B,3,S,S) float32 images: coarse noise in cells of 32 pixels, and fine noise; means differ by image."""
    rng = np.random.RandomState(seed)
    coarse = rng.standard_normal((batch, 3, size // 32, size // 32)).repeat(32, axis=2).repeat(32, axis=3)
    return torch.from_numpy((coarse + 0.25 * rng.standard_normal((batch, 3, size, size))).astype(np.float32))


def build(way: str, size: int = IMG_SIZE) -> M2TR:
    """Return the port or ours, filled, without decoder and dropout."""
    model = filled(M2TR(size, decoder=False, dropout=0.0))
    return ported(model) if way == "port" else model


def run_once(model: M2TR, images: Tensor, task: str) -> Tensor:
    """Run the task and return the (B,2) logits."""
    if task == "forward":
        with torch.inference_mode():
            seen: Tensor = model(images).logits
            return seen
    model.zero_grad()
    logits: Tensor = model(images).logits
    torch.autograd.backward(F.cross_entropy(logits, torch.arange(len(images), device=images.device) % 2))
    return logits


def measure(way: str, task: str, batch: int, repeats: int, size: int) -> dict[str, float]:
    """Run a task in this process: seconds by the clock and of the processor, and peak memory above the model, MB."""
    model, images = build(way, size).train(task == "step"), make_images(batch, size)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    held = resident_mb("VmHWM")
    clock, processor = [], []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        run_once(model, images, task)
        clock.append(time.perf_counter() - begun[0])
        processor.append(time.process_time() - begun[1])
    return {"seconds": min(clock), "CPU-seconds": min(processor), "MB above the model": resident_mb("VmHWM") - held}


def resident_mb(row: str) -> float:
    """Read a row of /proc/self/status, MB."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows[row].split()[0]) * 1024 / MB


def measure_apart(options: argparse.Namespace, way: str, task: str, batch: int) -> dict[str, float]:
    """Measure in a process of its own."""
    flush = ["--flush"] if options.flush or way == "ours" else []
    tiny = ["--tiny"] if options.tiny else []
    what = ["--child", way, task, str(batch), "--repeats", str(options.repeats), "--threads", str(options.threads)]
    return answer_of("m2tr", *what, *flush, *tiny, environment={"OMP_WAIT_POLICY": "PASSIVE"})


def require_equal(size: int) -> float:
    """Return the largest difference between the port's logits and ours.

    Raises:
        SystemExit: they differ by more than kernels do.
    """
    images = make_images(1, size)
    logits = [run_once(build(way, size).eval(), images, "forward") for way in WAYS]
    difference = float((logits[0] - logits[1]).abs().max())
    if difference > SAME:
        raise SystemExit(f"logits of port and ours: got a difference of {difference:.2g}, expected at most {SAME}")
    return difference


def compare(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure port and ours, task by task and batch by batch, and return figures and ratios."""
    results = {}
    for task in options.tasks:
        for batch in options.batches:
            port, ours = (measure_apart(options, way, task, batch) for way in WAYS)
            for name, value in ours.items():
                row = {"port": port[name], "ours": value, "ratio": port[name] / value}
                results[f"{task}, batch {batch}, {name}"] = row
    return results


def measure_cuda(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return images per second and peak memory of ours on a GPU, by task, precision and batch."""
    model, results = build("ours").to(options.device), {}
    for task in options.tasks:
        model.train(task == "step")
        for precision in (torch.float32, torch.bfloat16):
            for batch in CUDA_BATCHES:
                images = make_images(batch).to(options.device)
                torch.cuda.reset_peak_memory_stats()
                with torch.autocast("cuda", dtype=precision, enabled=precision != torch.float32):
                    seconds = time_cuda(model, images, task)
                name = f"{task}, {str(precision).removeprefix('torch.')}, batch {batch}"
                results[name] = {"images_per_s": batch / seconds, "peak_MB": torch.cuda.max_memory_allocated() / MB}
    return results


def time_cuda(model: M2TR, images: Tensor, task: str) -> float:
    """Return the mean seconds of a run, after some that are not counted."""
    for number in range(CUDA_WARMUPS + CUDA_RUNS):
        if number == CUDA_WARMUPS:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        run_once(model, images, task)
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / CUDA_RUNS


def draw(title: str, results: dict[str, dict[str, float]]) -> Table:
    """Make a table whose rows all have the same columns."""
    table = Table("", *(name.replace("_", " ") for name in next(iter(results.values()))), title=title)
    for name, values in results.items():
        table.add_row(name, *(f"{value:.4g}" for value in values.values()))
    return table


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--threads", type=int, default=2, help="threads of torch on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the fastest counts")
    parser.add_argument("--flush", action="store_true", help="flush denormal numbers for the port, too")
    parser.add_argument("--tiny", action="store_true", help="small crops, once, batch 2: a check that it runs")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for images per second of ours")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", nargs=3, metavar=("WAY", "TASK", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tiny:
        options.batches, options.repeats = [2], 1
    return options


def main() -> None:
    """Measure and print, or, as a child, measure one thing and write it as JSON."""
    options = parse()
    size = TINY_SIZE if options.tiny else IMG_SIZE
    torch.set_flush_denormal(options.flush)  # before any thread starts: they take it over
    torch.set_num_threads(options.threads)
    if options.child:
        way, task, batch = options.child
        sys.stdout.write(json.dumps(measure(way, task, int(batch), options.repeats, size)) + "\n")
        return
    if options.device == "cpu":
        title = f"port and ours, {options.threads} threads, {size} px, logits differ by {require_equal(size):.1g}"
        results = compare(options)
    else:
        title, results = torch.cuda.get_device_name(options.device), measure_cuda(options)
    Console().print(draw(title, results))
    write_figures(options.json, {"title": title, "results": results})


if __name__ == "__main__":
    main()
