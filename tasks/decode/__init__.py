"""The video decoders: one file and one line here for each."""

from collections.abc import Callable

from tasks.decode.decoder import Decoder
from tasks.decode.decord import DecordDecoder
from tasks.decode.pyav import PyAvDecoder

DECODERS: dict[str, Callable[[], Decoder]] = {
    "decord": DecordDecoder,
    "pyav": PyAvDecoder,
}
