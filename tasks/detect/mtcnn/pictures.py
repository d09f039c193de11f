"""Input pictures of MTCNN's networks: pyramid levels and crops, by exact area sampling.

A pixel of a shrunk picture is the mean of the whole pixels that it covers, as in `interpolate(mode="area")` of PyTorch.
Sums of bytes are exact, so an integral image (the table of sums from the corner) gives each mean by four look-ups, bit
for bit.
`cv2.INTER_AREA` weights the pixels at the edges: its pictures differ, and lead to other boxes (IoU down to 0.87).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import torch

from tasks.detect.mtcnn import kernels
from tasks.detect.mtcnn.kernels import BYTE_SCALE, MIDDLE_BYTE
from tasks.detect.mtcnn.pyramid import Canvas, Window


class SumTables:
    """Integral images (tables of sums) of T frames of one size, sampled by torch on any device.

    Args:
        images: (T,H,W,3) uint8.
        device: device of the samples.
    """

    def __init__(self, images: npt.NDArray[np.uint8], device: torch.device) -> None:
        self.num_frames, self.height, self.width = images.shape[:3]
        self.device = device
        # (T,H+1,W+1,3) int32: sums of all pixels above and to the left. Sums may overflow; their differences are right.
        self._sums = _sums_on_cpu(images) if device.type == "cpu" else _sums_on_device(images, device)

    def paint(self, canvas: Canvas) -> torch.Tensor:
        """Return (T,3,h,w) float32 in channels-last memory: a canvas for each frame, as the networks want it."""
        if len(canvas.windows) == 1:
            return _normalised(self._means(canvas.windows[0]))
        picture = torch.empty((self.num_frames, canvas.height, canvas.width, 3), device=self.device)
        picture.fill_(float(MIDDLE_BYTE))
        for window, (top, left) in zip(canvas.windows, canvas.corners, strict=True):
            picture[:, top : top + window.height, left : left + window.width] = self._means(window)
        return _normalised(picture)

    def _means(self, window: Window) -> torch.Tensor:
        """Return a window of each frame, (T,h,w,3) float32, 0..255."""
        tops, bottoms, heights = self._spans(self.height, window.level.height, window.rows)
        lefts, rights, widths = self._spans(self.width, window.level.width, window.columns)
        bands = self._sums.index_select(1, bottoms).sub_(self._sums.index_select(1, tops))
        sums = bands.index_select(2, rights).sub_(bands.index_select(2, lefts))
        return sums.float().div_(heights[:, None, None]).div_(widths[:, None])

    def crop(self, frames: torch.Tensor, corners_xyxy: torch.Tensor, side_px: int) -> torch.Tensor:
        """Return (N,3,S,S) float32 squares of pictures.

        Args:
            frames: (N,) int64, number of the frame of each square.
            corners_xyxy: (N,4) int64, whole pixels, the right and bottom ends not included.
            side_px: S.
        """
        lefts, rights = _spans_between(corners_xyxy[:, 0], corners_xyxy[:, 2], side_px)
        tops, bottoms = _spans_between(corners_xyxy[:, 1], corners_xyxy[:, 3], side_px)
        flat = self._sums.view(-1, 3)
        stride = self.width + 1
        upper, lower = ((frames[:, None] * (self.height + 1) + edge) * stride for edge in (tops, bottoms))

        def corner(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
            places = rows[:, :, None] + columns[:, None, :]
            return flat.index_select(0, places.flatten()).view(*places.shape, 3)

        sums = corner(lower, rights) - corner(upper, rights) - corner(lower, lefts) + corner(upper, lefts)
        heights, widths = (bottoms - tops).float(), (rights - lefts).float()
        means = sums.float().div_(heights[:, :, None, None]).div_(widths[:, None, :, None])
        return _normalised(means)

    def _spans(self, length: int, num_pixels: int, part: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        return tuple(values[slice(*part)] for values in _spans(length, num_pixels, self.device))


class CpuSumTables(SumTables):
    """Tables of sums sampled by compiled loops on a CPU: the same pictures, bit for bit, in a fifth of the time.

    Args:
        images: (T,H,W,3) uint8.
    """

    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        super().__init__(images, torch.device("cpu"))

    def paint(self, canvas: Canvas) -> torch.Tensor:
        """Return (T,3,h,w) float32 in channels-last memory: a canvas for each frame, as the networks want it."""
        # 0 is middle grey.
        picture = np.zeros((self.num_frames, canvas.height, canvas.width, 3), dtype=np.float32)
        for window, (top, left) in zip(canvas.windows, canvas.corners, strict=True):
            tops, bottoms, _ = self._spans(self.height, window.level.height, window.rows)
            lefts, rights, _ = self._spans(self.width, window.level.width, window.columns)
            kernels.paint_means(
                self._sums.numpy(), tops.numpy(), bottoms.numpy(), lefts.numpy(), rights.numpy(), picture, top, left
            )
        return torch.from_numpy(picture).permute(0, 3, 1, 2)

    def crop(self, frames: torch.Tensor, corners_xyxy: torch.Tensor, side_px: int) -> torch.Tensor:
        """Return (N,3,S,S) float32 squares of pictures; the arguments are those of `SumTables.crop`."""
        squares = np.empty((len(frames), side_px, side_px, 3), dtype=np.float32)
        kernels.paint_squares(self._sums.numpy(), frames.numpy(), corners_xyxy.numpy(), squares)
        return torch.from_numpy(squares).permute(0, 3, 1, 2)


@lru_cache(maxsize=256)
def _spans(length: int, num_pixels: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the part of `length` under each of `num_pixels`: first and one past the last, int64; size, float32."""
    numbers = torch.arange(num_pixels, device=device)
    starts, stops = numbers * length // num_pixels, -((numbers + 1) * -length // num_pixels)
    return starts, stops, (stops - starts).float()


def _spans_between(first: torch.Tensor, last: torch.Tensor, num_pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return first and one past the last for N intervals, (N,num_pixels) each."""
    numbers, lengths = torch.arange(num_pixels, device=first.device), (last - first)[:, None]
    starts, stops = numbers * lengths // num_pixels, -((numbers + 1) * -lengths // num_pixels)
    return starts + first[:, None], stops + first[:, None]


def _normalised(means: torch.Tensor) -> torch.Tensor:
    """Normalise (N,h,w,3) float32 bytes in place; return them as (N,3,h,w), about -1..1."""
    return means.sub_(float(MIDDLE_BYTE)).mul_(float(BYTE_SCALE)).permute(0, 3, 1, 2)


def _sums_on_cpu(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    tables = [cv2.integral(image, sdepth=cv2.CV_32S) for image in images]
    return torch.from_numpy(tables[0][None] if len(tables) == 1 else np.stack(tables))


def _sums_on_device(images: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Copy the bytes from pinned memory to the device, and compute the sums there."""
    data = torch.from_numpy(np.ascontiguousarray(images)).pin_memory().to(device, non_blocking=True)
    num_frames, height, width = data.shape[:3]
    sums = torch.zeros((num_frames, height + 1, width + 1, 3), dtype=torch.int32, device=device)
    torch.cumsum(data, 1, dtype=torch.int32, out=sums[:, 1:, 1:])
    return sums.cumsum_(2)
