"""The deepfake detector networks by name: one file and one line here for each, and any network of timm."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from manifests.errors import ConfigError, did_you_mean
from manifests.registry import Registry
from training.models.deepfake_detector import ATTRIBUTES, BACKBONE, ModelBuilder, ModelOptions

if TYPE_CHECKING:
    from torch import nn

MAX_SUGGESTIONS = 5
# Weights from which the papers of the presets start: timm's names with tags; `tasks.models.weights` knows the files.
# M2TR's authors start from AdvProp weights (arXiv 1911.09665), and feed them images normalised as ImageNet's. Of the
# detector of ff_attribution, arXiv 2404.18649 says that it was pretrained on ImageNet-1k.
PAPER_WEIGHTS: dict[str, str] = {
    "m2tr": "tf_efficientnet_b4.ap_in1k",
    "xception": "legacy_xception.tf_in1k",
    "ff_attribution": "tf_efficientnetv2_b0.in1k",
}


def lazy(target: str, *arguments: object) -> ModelBuilder:
    """Return a builder that imports `module:function` when it builds its first network, since torch loads slowly.

    Args:
        target: name of a function that takes the arguments and then the options.
        arguments: its first arguments.
    """

    def build(options: ModelOptions) -> nn.Module:
        network: nn.Module = pkgutil.resolve_name(target)(*arguments, options)
        return network

    return build


MODELS = Registry[ModelBuilder](
    "model",
    "faceshards.models",
    {
        "m2tr": lazy("training.models.m2tr:make_m2tr"),
        "m2tr-swin-tiny": lazy("training.models.swin_spectrum:make_swin_spectrum"),
        # timm's name of Xception (Chollet, arXiv 1610.02357), and the number of classes
        "xception": lazy("training.models.timm_detector:make_timm", "legacy_xception", 2),
        "efficientnet_b4": lazy("training.models.timm_detector:make_timm", BACKBONE, 2),
        "ff_attribution": lazy("training.models.timm_detector:make_timm", "tf_efficientnetv2_b0", 5),
    },
    needs=("__call__",),
)


def paper_weights(name: str, backbone: str = BACKBONE) -> str | None:
    """Return the weights from which the paper of a model starts; None if there is no paper of it with this backbone."""
    return None if name == "m2tr" and backbone != BACKBONE else PAPER_WEIGHTS.get(name)


def require_model(name: str) -> None:
    """Require that a name is a key of `MODELS` or a network of timm.

    Raises:
        ConfigError: it is neither, or its entry point cannot be loaded.
    """
    if name in MODELS:
        MODELS[name]
        return
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:MAX_SUGGESTIONS]
        hint = f"; such as {', '.join(near)}" if near else did_you_mean(name, [*MODELS, *timm.list_models()])
        raise ConfigError(f"model.name: got {name!r}, expected one of {', '.join(MODELS)}, or a network of timm{hint}")


def build_model(name: str, options: ModelOptions) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: key of `MODELS`, or timm's name of a network.
        options: size, classes and weights.

    Raises:
        ConfigError: the name is unknown, the options do not fit the network, or a plug-in breaks the contract.
    """
    if options.num_classes is not None and options.num_classes < 2:
        raise ConfigError(f"num_classes: got {options.num_classes}, expected at least 2; real and fake are two")
    require_model(name)
    build = MODELS[name] if name in MODELS else lazy("training.models.timm_detector:make_timm", name, 2)
    network = build(options)
    missing = [attribute for attribute in ATTRIBUTES if not hasattr(network, attribute)]
    if missing:
        raise ConfigError(
            f"model {name}: got a {type(network).__name__} without {', '.join(missing)}, expected the contract of a "
            "model; see CONTRIBUTING.md"
        )
    return network
