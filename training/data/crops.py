"""Crops of stores: how they were cut, whether stores agree, and whether a network would enlarge them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from manifests.errors import ConfigError
from storage.index import JsonObject

# Settings of a store on which the pixels of its crops depend, besides the video.
SECTIONS: dict[str, tuple[str, ...] | None] = {  # section → its settings; None: all of them
    "decode": None,
    "detect": ("kind",),
    "landmark": ("kind",),
    "crop": None,
    "encode": None,
}
CLIPS = ("clip_seconds", "clip_frames")


def disagreements(configs: Mapping[str, JsonObject]) -> list[str]:
    """Return a line for each setting of the crops on which stores differ, with the stores of each value.

    A setting that one of the stores does not record, since it did not exist then, is left out.

    Args:
        configs: name of the store → its settings, as in `StoreIndex.config`.
    """
    settings = {name: dict(_settings_of_crops(config)) for name, config in configs.items()}
    common = [name for name in next(iter(settings.values()), {}) if all(name in found for found in settings.values())]
    lines = []
    for name in common:
        stores_of: dict[str, list[str]] = {}
        for store, found in settings.items():
            stores_of.setdefault(found[name], []).append(store)
        if len(stores_of) > 1:
            values = ", ".join(f"{value} ({', '.join(stores)})" for value, stores in stores_of.items())
            lines.append(f"{name}: {values}")
    return lines


def resized(sides: Mapping[str, int], img_size: int, *, may_enlarge: bool) -> Iterator[str]:
    """Yield a line for each store whose crops have another side than the input of a network.

    Args:
        sides: name of the store → side of its crops, pixels.
        img_size: side of the input, pixels.
        may_enlarge: whether smaller crops are accepted.

    Raises:
        ConfigError: crops would be enlarged.
    """
    for store, side in sides.items():
        if side < img_size and not may_enlarge:
            raise ConfigError(
                f"crops of {store}: got {side} px, expected at least {img_size} px, the input of the model: enlarging "
                f"adds no detail; preprocess with crop.size_px={img_size}, use a model of {side} px (model.img_size), "
                "or accept it with --allow-upsampling (setting allow_upsampling)"
            )
        if side != img_size:
            yield f"{'enlarged' if side < img_size else 'reduced'} from {side} to {img_size} px ({store})"


def _settings_of_crops(config: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield name and value of each setting on which the pixels of the crops depend."""
    frames = config.get("frames", {})
    is_clip = frames.get("mode") == "clips"
    yield "frames", "clips" if is_clip else "single frames"
    for section, names in (SECTIONS | {"frames": CLIPS if is_clip else ()}).items():
        for name, value in config.get(section, {}).items():
            if names is None or name in names:
                yield f"{section}.{name}", str(value)
