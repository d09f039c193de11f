"""The aligners: one file and one line here for each."""

from collections.abc import Callable

from tasks.aligner import Aligner
from tasks.aligners.five_point import FivePointAligner
from tasks.aligners.lrw import LRWAligner
from tasks.aligners.square import SquareAligner

ALIGNERS: dict[str, Callable[..., Aligner]] = {
    "square": SquareAligner,
    "five_point": FivePointAligner,
    "lrw": LRWAligner,
}
