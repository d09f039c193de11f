"""The video decoders: one file and one line here for each."""

from collections.abc import Callable

from manifests.registry import Registry
from tasks.decode.decoder import Decoder
from tasks.decode.decord import DecordDecoder
from tasks.decode.pyav import PyAvDecoder

DECODERS = Registry[Callable[[], Decoder]](
    "decoder",
    "faceshards.decoders",
    {"decord": DecordDecoder, "pyav": PyAvDecoder},
    needs=("open",),
)
