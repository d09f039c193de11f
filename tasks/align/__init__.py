"""The aligners: one file and one line here for each."""

from collections.abc import Callable

from tasks.align.aligner import Aligner
from tasks.align.five_point import FivePointAligner
from tasks.align.lrw import LRWAligner
from tasks.align.square import SquareAligner

ALIGNERS: dict[str, Callable[..., Aligner]] = {
    "square": SquareAligner,
    "five_point": FivePointAligner,
    "lrw": LRWAligner,
}
