"""M2TR against numbers of the authors' code, against a port of the formulas, and the authors' checkpoints.

The rule by which weights and images are filled stands in `benchmarks/m2tr.py`; the few numbers below came out of the
authors' code run once in float64 with such weights. The whole set of them is compared where the reference files are.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.m2tr import filled, make_images, ported
from manifests.errors import ConfigError
from training.fit.losses import focal_loss
from training.models.m2tr import M2TR, MaskDecoder, normalise
from training.models.official_m2tr import load_official, official_names

SMALL = 64  # pixels: 16 places a side, the smallest patch has 2
GOLDEN_LOGITS = [[1.33422823, 0.21074915], [1.18394064, 0.3059425]]
GOLDEN_TRAINING_LOGITS = [[0.00823747, 0.05152902], [-0.0031586, -0.06952626]]
GOLDEN: dict[str, dict[tuple[int, ...], float]] = {
    "texture": {(0, 29, 1, 74): -0.2102337, (0, 9, 18, 42): 0.1995997, (0, 23, 12, 0): -1.021447},
    "s0_attn": {(0, 2, 42, 3): 0.0336231, (1, 22, 43, 50): 0.0919832, (0, 22, 62, 48): 0.6529923},
    "s0_freq": {(0, 8, 9, 38): 0.0332091, (0, 21, 13, 66): -0.1279082, (1, 19, 49, 23): -0.1019573},
    "s0_cmf": {(1, 8, 10, 39): -0.0651535, (0, 30, 19, 7): 0.004171, (0, 11, 19, 28): 0.4912255},
    "s3_cmf": {(1, 2, 59, 14): 3.9344436, (1, 30, 3, 1): 2.64942, (0, 16, 75, 77): 0.129576},
    "features": {(1, 1178): -0.1857382, (1, 8): -0.145787, (1, 447): 2.6222151},
    "mask": {(1, 0, 75, 161): 0.5193799, (1, 0, 141, 250): 0.5365418, (1, 0, 5, 198): 0.5195521},
}
# float32 against float64, ten times what one kernel's order of sums against another's makes
TOLERANCES = {"logits_raw": 1.2e-4, "features": 4e-4, "mask": 2e-5, "s3_attn": 3e-4, "s3_freq": 3e-4, "s3_cmf": 3e-4}
TOLERANCE = 1e-4
NO_EFFECT = 1e-4  # most norm that a gradient which mathematics calls zero may have in float32

Taps = dict[str, Tensor]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def full() -> M2TR:
    """The model at 320 by the rule, with the decoder in its published form: a mask of 316."""
    model = filled(M2TR())
    decoder = MaskDecoder(as_published=True)
    assert model.decoder is not None
    decoder.load_state_dict(model.decoder.state_dict())
    model.decoder = decoder
    return model.eval()


@pytest.fixture(scope="module")
def small() -> M2TR:
    return filled(M2TR(SMALL)).eval()


def tapped(model: M2TR, images: Tensor) -> Taps:
    """Run a model and keep what its parts return."""
    taps: Taps = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _args, made: taps.__setitem__(name, made)

    net = model.backbone.net
    parts = {"b1": net.get_submodule("blocks.0"), "texture": net.get_submodule("blocks.1")}
    for number in range(len(model.stages)):
        for name, part in (("attn", "transformer"), ("freq", "frequency"), ("cmf", "fusion")):
            parts[f"s{number}_{name}"] = model.get_submodule(f"stages.{number}.{part}")
    hooks = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    stem = net.get_submodule("conv_stem")
    hooks.append(stem.register_forward_hook(lambda _module, _args, made: taps.__setitem__("conv_stem", made.clone())))
    made = model(images)
    for hook in hooks:
        hook.remove()
    assert made.mask is not None
    return taps | {"logits_raw": made.logits, "features": made.features, "mask": made.mask}


def without_chance(model: M2TR) -> M2TR:
    """Set to training, but for dropout and drop-path."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "DropPath":
            module.eval()
    return model


def test_it_says_what_the_authors_code_says(full: M2TR) -> None:
    with torch.inference_mode():
        taps = tapped(full, make_images(2))
    assert taps["logits_raw"].numpy() == pytest.approx(np.array(GOLDEN_LOGITS), abs=TOLERANCES["logits_raw"])
    for name, places in GOLDEN.items():
        found = [float(taps[name][place]) for place in places]
        assert found == pytest.approx(list(places.values()), abs=TOLERANCES.get(name, TOLERANCE)), name


@pytest.mark.samples
def test_it_is_the_reference_tensor_by_tensor(full: M2TR, samples_dir: Path) -> None:
    reference = np.load(samples_dir.parent / "reference" / "m2tr_reference.npz")
    images = make_images(2)
    assert images[0, 0, 0, :8].numpy() == pytest.approx(reference["input_first8"], abs=0)
    full.zero_grad()
    taps = tapped(full, images)
    first = full.backbone.net.get_submodule("bn1")
    assert isinstance(first, nn.BatchNorm2d)
    taps["stem_bn"] = nn.BatchNorm2d.forward(first, taps.pop("conv_stem"))
    for name, made in taps.items():
        assert list(made.shape) == reference[f"shape/{name}"].tolist(), name
        found = made.detach().contiguous().flatten()[reference[f"idx/{name}"]].numpy()
        assert found == pytest.approx(reference[f"f64/{name}"], abs=TOLERANCES.get(name, TOLERANCE)), name
    loss = focal_loss(taps["logits_raw"], torch.tensor([0, 1]))
    assert float(loss.detach()) == pytest.approx(float(reference["focal_loss"]), abs=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    names, parameters = official_names(full), dict(full.named_parameters())
    for key, norm in zip(reference["grad_names"], reference["grad_l2_norm"], strict=True):
        gradient = parameters[names[str(key)]].grad
        assert (gradient is None) == (norm < 0), key
        if gradient is not None:
            assert float(gradient.norm()) == pytest.approx(norm, rel=1e-3, abs=NO_EFFECT), key
    for key in [name.removeprefix("grad/") for name in reference.files if name.startswith("grad/")]:
        gradient = parameters[names[key]].grad
        assert gradient is not None
        found = gradient.contiguous().flatten()[reference[f"gradidx/{key}"]].numpy()
        expected = reference[f"grad/{key}"]
        assert found == pytest.approx(expected, abs=1e-3 * np.abs(expected).max()), key


@pytest.mark.samples
def test_in_training_it_is_the_reference_too(samples_dir: Path) -> None:
    """In float64, where nothing is left of the order of sums: with two images batch normalisation magnifies it."""
    reference = np.load(samples_dir.parent / "reference" / "m2tr_reference.npz")
    model = filled(M2TR())
    decoder = MaskDecoder(as_published=True)
    assert model.decoder is not None
    decoder.load_state_dict(model.decoder.state_dict())
    model.decoder = decoder
    model = without_chance(model.double())
    with torch.no_grad():
        taps = tapped(model, make_images(2).double())
    assert reference["train_logits_raw_f64"] == pytest.approx(np.array(GOLDEN_TRAINING_LOGITS), abs=1e-7)
    for name in [name.removeprefix("train_idx/") for name in reference.files if name.startswith("train_idx/")]:
        found = taps[name].contiguous().flatten()[reference[f"train_idx/{name}"]].numpy()
        assert found == pytest.approx(reference[f"train_f64/{name}"], abs=1e-9), name
    names, state = official_names(model), model.state_dict()
    for name in [name for name in reference.files if name.startswith("train_running")]:
        which, _, layer = name.removeprefix("train_").partition("/")
        assert state[names[f"{layer}.{which}"]].numpy() == pytest.approx(reference[name], abs=1e-9), name


@pytest.mark.samples
def test_keys_shapes_and_types_are_the_authors(samples_dir: Path) -> None:
    rows = (samples_dir.parent / "reference" / "m2tr_state_dict_keys.tsv").read_text().splitlines()[1:]
    model = M2TR()
    state = model.state_dict()
    found = {
        key: ("x".join(map(str, state[ours].shape)) or "scalar", str(state[ours].dtype).removeprefix("torch."))
        for key, ours in official_names(model).items()
    }
    assert found == {key: (shape, dtype) for key, shape, dtype, _ in (row.split("\t") for row in rows)}


def test_number_of_parameters_and_keys() -> None:
    model = M2TR(decoder=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == 18_611_532
    assert len(model.state_dict()) == 928
    assert len(official_names(M2TR())) == 936


def test_the_port_of_the_formulas_agrees_forward_and_backward() -> None:
    """In float64: what differs is wrong, not rounded."""
    images = make_images(2, SMALL).double()
    made: list[list[Tensor]] = []
    for is_port in (False, True):
        model = filled(M2TR(SMALL, decoder=False)).double().eval()
        model = ported(model) if is_port else model
        output = model(images)
        torch.autograd.backward(focal_loss(output.logits, torch.tensor([0, 1])))
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        made.append([output.logits.detach(), *gradients])
    assert len(made[0]) == len(made[1]) == 567
    for ours, port in zip(*made, strict=True):
        torch.testing.assert_close(ours, port, rtol=1e-6, atol=1e-9)


def test_without_gradients_it_says_the_same(small: M2TR) -> None:
    """There batch normalisation and squeeze-and-excitation overwrite their inputs, which nothing else may need."""
    images = make_images(2, SMALL)
    kept = images.clone()
    with_gradients = small(images)
    with torch.no_grad():
        without = small(images)
    for name in ("logits", "features", "mask"):
        torch.testing.assert_close(getattr(with_gradients, name).detach(), getattr(without, name), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


def test_normalise_overwrites_only_without_gradients() -> None:
    norm = nn.BatchNorm2d(4).eval()
    maps = torch.randn(2, 4, 3, 3)
    kept = maps.clone()
    with_gradients = normalise(norm, maps)
    torch.testing.assert_close(maps, kept, rtol=0, atol=0)
    with torch.no_grad():
        without = normalise(norm, maps)
    assert without.data_ptr() == maps.data_ptr()
    torch.testing.assert_close(without, with_gradients.detach())


@pytest.mark.parametrize("size", [32, 64, 96])
def test_any_multiple_of_32(size: int) -> None:
    model = M2TR(size, num_classes=5, num_stages=1).eval()
    with torch.inference_mode():
        made = model(make_images(2, size))
    assert made.logits.shape == (2, 5)
    assert made.features.shape == (2, 1792)
    assert made.mask is not None
    assert made.mask.shape == (2, 1, size, size)
    assert made.mask.min() >= 0
    assert made.mask.max() <= 1


@pytest.mark.parametrize("size", [0, -32, 100])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"img_size: got {size}, expected a multiple of 32"):
        M2TR(size)


def test_it_learns_in_every_parameter_that_counts() -> None:
    model = M2TR(SMALL).train()
    made = model(make_images(2, SMALL))
    assert made.mask is not None
    torch.autograd.backward(F.cross_entropy(made.logits, torch.tensor([0, 1])) + made.mask.mean())
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"backbone.net.classifier.weight", "backbone.net.classifier.bias"}
    assert not any(model.get_parameter(name).requires_grad for name in without)


def test_autocast_leaves_the_filter_in_float32(small: M2TR) -> None:
    images = make_images(2, SMALL)
    with torch.inference_mode():
        exact = small(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = small(images)
            filtered = small.stages[0].get_submodule("frequency").filter(torch.ones(1, 32, 16, 16))  # type: ignore[operator]
    assert filtered.dtype == torch.float32
    assert made.logits.dtype == torch.bfloat16
    assert made.mask is not None
    assert made.mask.dtype == torch.float32
    torch.testing.assert_close(made.logits.float(), exact.logits, rtol=0.1, atol=0.2)


def test_pretrained_false_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    M2TR(SMALL, num_stages=1)


def official_state(model: M2TR) -> dict[str, Tensor]:
    state = model.state_dict()
    return {key: state[ours] for key, ours in official_names(model).items()}


@pytest.mark.parametrize("decoder", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_their_checkpoints_load(tmp_path: Path, small: M2TR, decoder: bool, wrapped: bool) -> None:
    """With all that stands in one: an optimiser with momentum, a schedule, a configuration."""
    state = {key: tensor for key, tensor in official_state(small).items() if decoder or not key.startswith("decoder.")}
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=5e-4, momentum=0.9, weight_decay=0.01)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    checkpoint = {
        "epoch": 3,
        "model_state": state,
        "optimizer_state": optimizer.state_dict(),
        "scheduler_state": schedule.state_dict(),
        "cfg": {"MODEL": {"MODEL_NAME": "M2TR", "TEXTURE_LAYER": "b2"}, "TRAIN": {"LR": 5e-4, "SIZES": (320, 320)}},
    }
    path = tmp_path / "checkpoint.pyth"
    torch.save(checkpoint if wrapped else state, path)
    loaded = load_official(path, SMALL).eval()
    with torch.inference_mode():
        made, expected = loaded(make_images(1, SMALL)), small(make_images(1, SMALL))
    torch.testing.assert_close(made.logits, expected.logits)
    assert (made.mask is not None) == decoder


def test_their_number_of_classes_is_taken_over(tmp_path: Path) -> None:
    torch.save(official_state(M2TR(SMALL, num_classes=5)), tmp_path / "five.pyth")
    assert load_official(tmp_path / "five.pyth", SMALL).num_classes == 5


def test_keys_that_differ_are_named(tmp_path: Path, small: M2TR) -> None:
    state = official_state(small)
    state["classifier.bias"] = state.pop("classifier.projection.bias")
    torch.save(state, tmp_path / "other.pyth")
    with pytest.raises(ConfigError, match=r"1 missing \(classifier.projection.bias\); 1 unknown \(classifier.bias\)"):
        load_official(tmp_path / "other.pyth", SMALL)


def test_another_size_is_named(tmp_path: Path, small: M2TR) -> None:
    torch.save(official_state(small), tmp_path / "small.pyth")
    with pytest.raises(ConfigError, match=r"4 of another shape \(layers.0.1.filter.complex_weight \(16, 9"):
        load_official(tmp_path / "small.pyth", 96)


def test_a_file_with_more_than_plain_values_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state": {}, "cfg": argparse.Namespace(size=320)}, tmp_path / "code.pyth")
    with pytest.raises(ConfigError, match="tensors and plain values only; fetch the file again, or save only its"):
        load_official(tmp_path / "code.pyth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pyth"):
        with pytest.raises(ConfigError, match="got no file, expected one of weights; check the path"):
            load_official(path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3, "cfg": {}}])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "empty.pyth")
    with pytest.raises(ConfigError, match="expected a state dict or one under `model_state`"):
        load_official(tmp_path / "empty.pyth")


def test_a_broken_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pyth").write_bytes(b"no weights at all")
    for name in ("broken.pyth", "missing.pyth"):
        with pytest.raises(ConfigError, match=name):
            load_official(tmp_path / name)


def test_backbone_weights_come_from_a_file(tmp_path: Path) -> None:
    given = M2TR(32, num_stages=1, decoder=False).backbone.net.state_dict()
    state = {key: tensor for key, tensor in given.items() if not key.startswith("classifier.")}
    torch.save(state | {"classifier.weight": torch.zeros(1000, 1792)}, tmp_path / "b4.pth")
    model = M2TR(32, num_stages=1, decoder=False, backbone_weights=tmp_path / "b4.pth")
    torch.testing.assert_close(model.backbone.net.state_dict()["conv_head.weight"], state["conv_head.weight"])
    without_counters = {key: tensor for key, tensor in state.items() if not key.endswith(".num_batches_tracked")}
    torch.save(without_counters, tmp_path / "old.pth")  # as of PyTorch 0.4.0
    M2TR(32, num_stages=1, decoder=False, backbone_weights=tmp_path / "old.pth")
    torch.save({"conv_stem.weight": state["conv_stem.weight"]}, tmp_path / "part.pth")
    with pytest.raises(ConfigError, match="607 missing"):  # 96 counters may be
        M2TR(32, num_stages=1, backbone_weights=tmp_path / "part.pth")
