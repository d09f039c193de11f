"""Registry of aligners: each one is a file in this folder and a line here."""

from manifests.registry import Registry
from tasks.align.aligner import Aligner
from tasks.align.five_point import FivePointAligner
from tasks.align.lrw import LRWAligner
from tasks.align.square import SquareAligner
from tasks.implementation import contract_of

ALIGNERS = Registry[type[Aligner]](
    "aligner",
    "faceshards.aligners",
    {"square": SquareAligner, "five_point": FivePointAligner, "lrw": LRWAligner},
    needs=contract_of(Aligner),
)
