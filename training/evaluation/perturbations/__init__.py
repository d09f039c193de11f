"""The perturbations of crops by name: one file and one line here for each set."""

from manifests.errors import ConfigError, did_you_mean
from manifests.registry import Registry
from training.evaluation.perturbations.deeperforensics import DEEPERFORENSICS
from training.evaluation.perturbations.honest import HONEST
from training.evaluation.perturbations.perturbation import Perturbation
from training.evaluation.perturbations.study import STUDY

PERTURBATIONS = Registry[Perturbation](
    "perturbation",
    "faceshards.perturbations",
    {found.name: found for found in (*STUDY, *DEEPERFORENSICS, *HONEST)},
    needs=("apply", "levels", "title", "belongs_to", "parameter"),
)


def require_perturbations(names: tuple[str, ...]) -> None:
    """Require that names are keys of `PERTURBATIONS`.

    Raises:
        ConfigError: one is unknown, or its entry point cannot be loaded.
    """
    for name in names:
        if name not in PERTURBATIONS:
            raise ConfigError(
                f"perturbations: got {name!r}, expected some of {', '.join(PERTURBATIONS)}"
                f"{did_you_mean(name, PERTURBATIONS)}"
            )
        PERTURBATIONS[name]
