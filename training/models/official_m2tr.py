"""Checkpoints of M2TR's authors (PyDeepFakeDet): their keys, and loading them into our network."""

from __future__ import annotations

from pathlib import Path

from training.models.m2tr import M2TR
from training.models.weight_files import read_state, require_same

# Names of the parts of our model → names in the authors' code: backbone, blocks (the first group has blocks of another
# kind, which do not expand their channels), stages, heads.
OFFICIAL_BACKBONE = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
OFFICIAL_BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
OFFICIAL_FIRST_BLOCK = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
OFFICIAL_STAGE = {
    "transformer.query": "0.t.attention.query_embedding",
    "transformer.key": "0.t.attention.key_embedding",
    "transformer.value": "0.t.attention.value_embedding",
    "transformer.output.conv": "0.t.attention.output_linear.0",
    "transformer.output.norm": "0.t.attention.output_linear.1",
    "transformer.feed_forward.first.conv": "0.t.feed_forward.conv.0",
    "transformer.feed_forward.first.norm": "0.t.feed_forward.conv.1",
    "transformer.feed_forward.second.conv": "0.t.feed_forward.conv.3",
    "transformer.feed_forward.second.norm": "0.t.feed_forward.conv.4",
    "frequency": "1.filter",
    "frequency.feed_forward.first.conv": "1.feed_forward.conv.0",
    "frequency.feed_forward.first.norm": "1.feed_forward.conv.1",
    "frequency.feed_forward.second.conv": "1.feed_forward.conv.3",
    "frequency.feed_forward.second.norm": "1.feed_forward.conv.4",
    "fusion.query": "2.conv1",
    "fusion.key": "2.conv2",
    "fusion.value": "2.conv3",
    "fusion.output.conv": "2.conv4.0",
    "fusion.output.norm": "2.conv4.1",
}
OFFICIAL_HEADS = {
    "classifier.projection": "classifier.projection",
    "decoder.first": "decoder.deconv1.conv",
    "decoder.second": "decoder.conv1.0",
    "decoder.third": "decoder.deconv2.conv",
    "decoder.last": "decoder.conv2.1",
}
BLOCKS = "backbone.net.blocks."  # followed by `group.block`
BLOCKS_DEPTH = 4  # dots in the name of a block


def load_official(path: Path, img_size: int = 320) -> M2TR:
    """Load a checkpoint of the authors' code: a state dict or `{"model_state": …}`, with or without a decoder.

    Args:
        path: checkpoint file. Only tensors and plain values are read: no code in it is executed.
        img_size: side of its training crops, pixels.

    Raises:
        ConfigError: the file cannot be read, or its keys or shapes do not match; the message names them.
    """
    state = {key.removeprefix("module."): tensor for key, tensor in read_state(path).items()}  # prefix of DDP
    projection = state.get("classifier.projection.weight")
    num_classes = 2 if projection is None else len(projection)
    model = M2TR(img_size, num_classes, decoder=any(key.startswith("decoder.") for key in state))
    ours = model.state_dict()
    names = official_names(model)
    require_same(path, state, {official: ours[name] for official, name in names.items()})
    model.load_state_dict({name: state[official] for official, name in names.items()})
    return model


def official_names(model: M2TR) -> dict[str, str]:
    """Map each key of the authors' state dict to our key, in the order of our state dict."""
    parts = dict(OFFICIAL_HEADS)
    parts |= {f"backbone.net.{ours}": f"model.{official}" for ours, official in OFFICIAL_BACKBONE.items()}
    blocks = [name for name, _ in model.named_modules() if name.startswith(BLOCKS) and name.count(".") == BLOCKS_DEPTH]
    for number, block in enumerate(blocks):
        table = OFFICIAL_FIRST_BLOCK if block.startswith(f"{BLOCKS}0.") else OFFICIAL_BLOCK
        parts |= {f"{block}.{ours}": f"model._blocks.{number}.{official}" for ours, official in table.items()}
    for number in range(len(model.stages)):
        parts |= {f"stages.{number}.{ours}": f"layers.{number}.{official}" for ours, official in OFFICIAL_STAGE.items()}
    split = {key: key.rpartition(".") for key in model.state_dict()}
    return {f"{parts[part]}.{last}": key for key, (part, _, last) in split.items()}
