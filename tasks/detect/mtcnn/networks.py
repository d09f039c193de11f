"""MTCNN's three networks: facenet-pytorch's weights, fewer passes over memory, equal results up to rounding.

Channels are padded with zeros to a multiple of sixteen, the width of AVX-512's vectors. Heads with the same input are
joined into one layer. On a CPU, activation and pooling are one pass (`kernels.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from torch import Tensor
from torch.nn import functional as nnf

from tasks.detect.mtcnn import kernels
from tasks.detect.mtcnn.pyramid import CELL_STRIDE_PX

R_NET_PX = 24
O_NET_PX = 48

CHANNELS_PER_VECTOR = 16
POOL_STRIDE = 2
PADDING_VALUE = -1e30  # below every activation, so max pooling ignores the padding


class Layer(NamedTuple):
    """A convolution and its activation."""

    weight: Tensor
    """(outputs,inputs,k,k) channels-last."""

    bias: Tensor
    """(outputs,)."""

    slope: Tensor
    """(outputs,) slopes of PReLU below 0."""

    def convolve(self, values: Tensor) -> Tensor:
        """Return the result of the convolution, (N,outputs,h,w)."""
        return nnf.conv2d(values, self.weight, self.bias)

    def __call__(self, values: Tensor) -> Tensor:
        """Return the activated result, (N,outputs,h,w)."""
        return nnf.prelu(self.convolve(values), self.slope)

    def pooled(self, convolved: Tensor, size: int) -> Tensor:
        """Activate what `convolve` returned, and max-pool it."""
        if convolved.device.type != "cpu":
            return nnf.max_pool2d(nnf.prelu(convolved, self.slope), size, POOL_STRIDE, ceil_mode=True)
        values = np.ascontiguousarray(convolved.permute(0, 2, 3, 1).numpy())
        height, width = ((length - size + POOL_STRIDE - 1) // POOL_STRIDE + 1 for length in values.shape[1:3])
        pools = np.empty((len(values), height, width, values.shape[3]), dtype=np.float32)
        kernels.activate_and_pool(values, self.slope.numpy(), size, POOL_STRIDE, pools)
        return torch.from_numpy(pools).permute(0, 3, 1, 2)


class FastPNet:
    """P-Net: (T,3,h,w) → a probability and four offsets for each cell."""

    def __init__(self, device: torch.device) -> None:
        network = PNet()
        self._first, self._second, self._third = _layers(network, 3, device)
        weight, bias = _joined((network.conv4_1, network.conv4_2))
        more = -len(bias) % CHANNELS_PER_VECTOR
        weight, bias = nnf.pad(weight, (0, 0, 0, 0, 0, 0, 0, more)), nnf.pad(bias, (0, more))
        self._heads = weight.to(device, memory_format=torch.channels_last), bias.to(device)
        # With negative slopes, no activated value is below 0.
        self._padding = torch.where(self._first.slope > 0, PADDING_VALUE, 0.0)[:, None, None]

    def __call__(self, canvases: Tensor, seams: Sequence[tuple[slice, slice]] = ()) -> tuple[Tensor, Tensor]:
        """Return probabilities (T,y,x) and offsets (T,4,y,x) for the cells of (T,3,h,w) canvases.

        Args:
            canvases: pictures.
            seams: parts of the first layer's result that must not affect any cell.
        """
        first = self._first.convolve(canvases)
        for rows, columns in seams:
            first[:, :, rows, columns] = self._padding
        values = self._third(self._second(self._first.pooled(first, CELL_STRIDE_PX)))
        outputs = nnf.conv2d(values, *self._heads)
        return outputs[:, :2].softmax(dim=1)[:, 1], outputs[:, 2:6]


class CropNetwork:
    """R-Net or O-Net: convolutions, a hidden layer of all their values, and heads that share it.

    Args:
        layers: the convolutions.
        pools: sizes of the pools after the first convolutions.
        hidden: the hidden layer and its activation.
        heads: two logits, four offsets, and further outputs.
        device: device that it runs on.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        pools: Sequence[int],
        hidden: tuple[Any, Any],
        heads: Sequence[Any],
        device: torch.device,
    ) -> None:
        self._layers, self._pools = layers, pools
        linear, activation = hidden
        self._hidden = linear.weight.detach().to(device), linear.bias.detach().to(device)
        self._slope = activation.weight.detach().to(device)
        weight, bias = _joined(heads)
        self._heads = weight.to(device), bias.to(device)

    def __call__(self, squares: Tensor) -> Tensor:
        """Return (N,5 or more) for (N,3,S,S) squares: probability of a face, four offsets, and further outputs."""
        values = squares
        for layer, pool in zip(self._layers, self._pools, strict=False):
            values = layer.pooled(layer.convolve(values), pool)
        for layer in self._layers[len(self._pools) :]:
            values = layer(values)
        values = values.permute(0, 3, 2, 1).reshape(len(values), -1)  # facenet-pytorch's order: width, height, channels
        values = nnf.prelu(nnf.linear(values, *self._hidden), self._slope)
        outputs = nnf.linear(values, *self._heads)
        return torch.cat([outputs[:, :2].softmax(dim=1)[:, 1:], outputs[:, 2:]], dim=1)


def r_net(device: torch.device) -> CropNetwork:
    """Return R-Net: (N,3,24,24) → (N,5)."""
    network = RNet()
    heads = network.dense5_1, network.dense5_2
    return CropNetwork(_layers(network, 3, device), (3, 3), (network.dense4, network.prelu4), heads, device)


def o_net(device: torch.device) -> CropNetwork:
    """Return O-Net: (N,3,48,48) → (N,15), five x and five y of landmarks last."""
    network = ONet()
    heads = network.dense6_1, network.dense6_2, network.dense6_3
    return CropNetwork(_layers(network, 4, device), (3, 3, 2), (network.dense5, network.prelu5), heads, device)


def _joined(heads: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return the concatenated weights and biases of layers with the same input."""
    weight, bias = (torch.cat([getattr(head, name).detach() for head in heads]) for name in ("weight", "bias"))
    return weight, bias


def _layers(network: Any, num_layers: int, device: torch.device) -> list[Layer]:
    """Return the first convolutions of one of facenet-pytorch's networks, each with its activation."""
    return [
        _layer(getattr(network, f"conv{number}"), getattr(network, f"prelu{number}"), device)
        for number in range(1, num_layers + 1)
    ]


def _layer(convolution: Any, activation: Any, device: torch.device) -> Layer:
    """Return a convolution with channels padded to sixteens; so are those of its input, unless it is a picture."""
    num_outputs, num_inputs = convolution.weight.shape[:2]
    more_outputs = -num_outputs % CHANNELS_PER_VECTOR
    more_inputs = -num_inputs % CHANNELS_PER_VECTOR if num_inputs > 3 else 0
    weight = nnf.pad(convolution.weight.detach(), (0, 0, 0, 0, 0, more_inputs, 0, more_outputs))
    bias, slope = (nnf.pad(vector.detach(), (0, more_outputs)) for vector in (convolution.bias, activation.weight))
    return Layer(weight.to(device, memory_format=torch.channels_last), bias.to(device), slope.to(device))
