"""MTCNN's cascade of three networks (P-Net, R-Net, O-Net), with the weights and arithmetic of facenet-pytorch.

windows of the pyramid ──P-Net──► squares ──R-Net──► better squares ──O-Net──► boxes, scores, landmarks
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms  # type: ignore[import-untyped]  # no stubs

from tasks.detect.mtcnn.networks import O_NET_PX, R_NET_PX, CropNetwork, FastPNet, o_net, r_net
from tasks.detect.mtcnn.pictures import SumTables
from tasks.detect.mtcnn.pyramid import CELL_PX, CELL_STRIDE_PX, MAX_STRIP_PIXELS, Canvas, Window, packed
from tasks.media import FaceDetection

# Overlaps above which one of two boxes is dropped, as in facenet-pytorch.
LEVEL_NMS_IOU = 0.5
NMS_IOU = 0.7
NMS_SHARE_OF_SMALLER = 0.7

# Squares in a batch of R-Net and O-Net: as many as fit in a core's cache, and facenet-pytorch's number for a GPU.
SQUARES_PER_BATCH = {"cpu": 32, "cuda": 512}


class Cascade:
    """The three networks on a device.

    Args:
        thresholds: lowest scores of P-Net, R-Net and O-Net.
        device: device that they run on.
    """

    def __init__(self, thresholds: tuple[float, float, float], device: torch.device) -> None:
        self._thresholds = thresholds
        self._pnet = FastPNet(device)
        self._rnet = r_net(device)
        self._onet = o_net(device)

    @torch.inference_mode()
    def search(self, tables: SumTables, windows: Sequence[Window]) -> list[list[FaceDetection]]:
        """Return the faces in some windows of each of the T frames, the largest box first."""
        boxes, frames = self._propose(tables, windows)
        boxes, frames = self._refine(tables, boxes, frames)
        return self._decide(tables, boxes, frames)

    def _propose(self, tables: SumTables, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Run P-Net; return squares (N,4) and their frames (N,), the highest score first."""
        found, groups = [], []
        for canvas in packed(tuple(windows), MAX_STRIP_PIXELS[tables.device.type]):
            boxes, group = self._candidates(tables, canvas)
            found.append(boxes)
            groups.append(group)
        boxes, group = torch.cat(found), torch.cat(groups)
        order = group.argsort(stable=True)  # of boxes with equal scores, the one from the finer level stays
        boxes, group = boxes[order], group[order]
        # Coordinates are whole numbers here, and below 2^24 even after the shift that separates groups.
        kept = batched_nms(boxes[:, :4], boxes[:, 4], group, LEVEL_NMS_IOU)
        boxes, frames = boxes[kept], group[kept] % tables.num_frames
        kept = _nms(boxes[:, :4], boxes[:, 4], frames, tables.num_frames)
        boxes, frames = boxes[kept], frames[kept]
        sides = boxes[:, 2:4] - boxes[:, :2]
        return _squares(boxes[:, :4] + boxes[:, 5:] * sides.repeat(1, 2)), frames

    def _candidates(self, tables: SumTables, canvas: Canvas) -> tuple[Tensor, Tensor]:
        """Return P-Net's candidates (N,9): box, score, offsets; and (N,) their number among T frames × levels."""
        owners, least = (torch.from_numpy(values).to(tables.device) for values in canvas.owners())
        scores, offsets = self._pnet(tables.paint(canvas), canvas.seams())
        chosen = scores >= least.clamp_(min=self._thresholds[0])
        places = chosen.nonzero()
        owner = owners[places[:, 1], places[:, 2]]
        per_window = torch.tensor(
            [(*move, window.level.number) for move, window in zip(canvas.moves(), canvas.windows, strict=True)],
            device=tables.device,
        )[owner]
        scales = torch.tensor([window.level.scale for window in canvas.windows], device=tables.device)[owner, None]
        corners = (places[:, 1:].flip(1) * CELL_STRIDE_PX + per_window[:, :2]).float()
        first, last = ((corners + 1) / scales).floor(), ((corners + CELL_PX) / scales).floor()
        boxes = torch.cat([first, last, scores[chosen][:, None], offsets.permute(0, 2, 3, 1)[chosen]], dim=1)
        return boxes, places[:, 0] + per_window[:, 2] * tables.num_frames

    def _refine(self, tables: SumTables, boxes: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run R-Net, which returns fewer and better squares."""
        boxes, frames, corners = _inside_frame(tables, boxes, frames)
        if not len(boxes):
            return boxes, frames
        answers = _run(self._rnet, tables, frames, corners, R_NET_PX)
        passed = answers[:, 0] > self._thresholds[1]
        boxes, frames, answers = boxes[passed], frames[passed], answers[passed]
        kept = _nms(boxes, answers[:, 0], frames, tables.num_frames)
        return _squares(_moved(boxes[kept], answers[kept, 1:])), frames[kept]

    def _decide(self, tables: SumTables, boxes: Tensor, frames: Tensor) -> list[list[FaceDetection]]:
        """Run O-Net, which returns the faces of each frame."""
        boxes, frames, corners = _inside_frame(tables, boxes, frames)
        if not len(boxes):
            return [[] for _ in range(tables.num_frames)]
        answers = _run(self._onet, tables, frames, corners, O_NET_PX)
        passed = answers[:, 0] > self._thresholds[2]
        boxes, answers = boxes[passed], answers[passed]
        scores, offsets, points_x, points_y = torch.split(answers, [1, 4, 5, 5], dim=1)
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        across = sides[:, :1] * points_x + boxes[:, :1] - 1
        down = sides[:, 1:] * points_y + boxes[:, 1:2] - 1
        columns = [_moved(boxes, offsets), scores, across, down, frames[passed, None].float()]
        found = torch.cat(columns, dim=1).cpu().numpy()  # the only transfer from the device
        return [_faces(found[found[:, -1] == frame]) for frame in range(tables.num_frames)]


def _inside_frame(tables: SumTables, boxes: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the squares (N,4) that overlap their frame, their frames (N,), and their parts (N,4) inside the frame."""
    corners = boxes.long()  # rounded towards zero
    corners = torch.cat([corners[:, :2].clamp(min=1) - 1, corners[:, 2:]], dim=1)
    corners[:, 2].clamp_(max=tables.width)
    corners[:, 3].clamp_(max=tables.height)
    inside = (corners[:, 2:] > corners[:, :2]).all(dim=1)
    return boxes[inside], frames[inside], corners[inside]


def _nms(boxes: Tensor, scores: Tensor, frames: Tensor, num_frames: int) -> Tensor:
    """Return which boxes (N,4) stay after non-maximum suppression within each frame, best first."""
    kept = nms(boxes, scores, NMS_IOU) if num_frames == 1 else batched_nms(boxes, scores, frames, NMS_IOU)
    return cast(Tensor, kept)


def _run(network: CropNetwork, tables: SumTables, frames: Tensor, corners: Tensor, side_px: int) -> Tensor:
    """Run a network on N crops, N > 0, in batches; return its N results."""
    step = SQUARES_PER_BATCH[tables.device.type]
    batches = zip(torch.split(frames, step), torch.split(corners, step), strict=True)
    return torch.cat([network(tables.crop(*batch, side_px)) for batch in batches])


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Return boxes (N,4) with sides moved by offsets (N,4), which are shares of width and height."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * sides.repeat(1, 2)


def _squares(boxes: Tensor) -> Tensor:
    """Return the squares (N,4) around the centres of boxes (N,4), with their longer sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.amax(dim=1, keepdim=True)
    corners = boxes[:, :2] + sides * 0.5 - longer * 0.5
    return torch.cat([corners, corners + longer], dim=1)


def _faces(found: npt.NDArray[np.float32]) -> list[FaceDetection]:
    """Return the faces of one frame from O-Net's (N,16): box, score, five x, five y, frame."""
    found = found[_nms_by_smaller_area(found[:, :4], found[:, 4])]
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    return [
        FaceDetection(
            box_xyxy=row[:4].copy(),
            score=min(float(row[4]), 1.0),  # a softmax in float32 can end one rounding step above 1
            landmarks=np.stack([row[5:10], row[10:15]], axis=1),
        )
        for row in found[np.argsort(areas)[::-1]]
    ]


def _nms_by_smaller_area(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> list[int]:
    """Return which boxes stay after non-maximum suppression by intersection over smaller area, best first."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    left = np.argsort(scores)
    kept: list[int] = []
    while len(left):
        best, left = int(left[-1]), left[:-1]
        kept.append(best)
        starts, stops = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.maximum(np.float32(0), stops - starts + 1).prod(axis=1)
        left = left[shared / np.minimum(areas[best], areas[left]) <= NMS_SHARE_OF_SMALLER]
    return kept
