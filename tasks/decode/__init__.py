"""Registry of video decoders: each one is a file in this folder and a line here."""

from collections import ChainMap
from typing import Final

from manifests.registry import Registry
from tasks.decode.decoder import Decoder
from tasks.decode.decord import DecordDecoder
from tasks.decode.pyav import PyAvDecoder
from tasks.implementation import contract_of

DECODERS = Registry[type[Decoder]](
    "decoder",
    "faceshards.decoders",
    {"decord": DecordDecoder, "pyav": PyAvDecoder},
    needs=contract_of(Decoder),
)

AUTO: Final = "auto"
# What `auto` stands for, in settings and in records: the library that also probes, so both see the same video.
AUTO_DECODER: Final = "pyav"
# `auto` first; a view, so decoders of other distributions appear.
BACKENDS: Final = ChainMap[str, type[Decoder]](DECODERS, {AUTO: DECODERS.own[AUTO_DECODER]})
