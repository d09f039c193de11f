"""Check of the checkpoint from which a run resumes, before training starts."""

from __future__ import annotations

from pathlib import Path

from manifests.errors import ConfigError
from training.models.weight_files import read_weights, require_intact
from training.run_folder import RESUME_NAME

# What Lightning and our callbacks read; a model file has none of it.
NEEDED = {"state_dict", "optimizer_states", "loops", "callbacks"}


def require_checkpoint(run: Path) -> None:
    """Require that the checkpoint of a run, if there is one, is complete and undamaged.

    Raises:
        ConfigError: it is cut short, as by a full disk, has other bytes than were written, or is another file.
    """
    path = run / RESUME_NAME
    if not path.exists():
        return
    way_out = "expected the checkpoint of a run; delete it to begin the run again, or choose another --run"
    try:
        content = read_weights(path, mapped=True)
        require_intact(path)
    except ConfigError as error:
        raise ConfigError(f"run {path}: got a damaged file, {way_out}") from error
    if not (isinstance(content, dict) and content.keys() >= NEEDED):
        raise ConfigError(f"run {path}: got another file of PyTorch, {way_out}")
