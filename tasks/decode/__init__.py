"""Registry of video decoders: each one is a file in this folder and a line here."""

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
