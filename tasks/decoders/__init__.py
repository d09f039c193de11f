"""The video decoders: one file and one line here for each."""

from collections.abc import Callable

from tasks.decoder import Decoder
from tasks.decoders.decord import DecordDecoder
from tasks.decoders.pyav import PyAvDecoder

DECODERS: dict[str, Callable[[], Decoder]] = {
    "decord": DecordDecoder,
    "pyav": PyAvDecoder,
}
