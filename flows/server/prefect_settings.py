"""Prefect's settings, read so that whatever is wrong with them is one line."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import ConfigError
from tasks.download.proxies import prepare_proxies

if TYPE_CHECKING:
    from prefect.settings import Settings

logger = logging.getLogger(__name__)

PROFILES_NAME = "profiles.toml"
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # read whenever a client of httpx is made


def prefect_settings() -> Settings:
    """Import Prefect, and return its settings; where there are proxies, this machine is exempt from them.

    Raises:
        ConfigError: a variable, a profile or another file of settings cannot be used.
    """
    prepare_proxies()
    for name in CERTIFICATES:
        if (place := os.environ.get(name)) and not Path(place).exists():
            raise ConfigError(f"{name}: got {place}, which does not exist, expected certificates; correct or unset it")
    _make_homes()
    try:
        # Prefect reads its settings when it is imported, and prints some faults.
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(io.StringIO()) as printed:
            from prefect.settings import get_current_settings

            settings = get_current_settings()
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"Prefect's settings: got {_reason(error)}, expected PREFECT_… variables and {_profiles_path()} as "
            "Prefect can read them; correct them, or export PREFECT_PROFILES_PATH=/another/file"
        ) from None
    warned = [str(warning.message) for warning in caught if warning.category is UserWarning]
    for line in dict.fromkeys((*warned, *re.findall("^WARNING: (.*)", printed.getvalue(), re.MULTILINE))):
        if "home directory" not in line:  # the server then keeps its database elsewhere
            logger.warning("Prefect's settings: %s", line.strip())
    return settings


def _make_homes() -> None:
    """Make $PREFECT_HOME with its parents, and name a home where the user has none, since Prefect needs both."""
    try:
        Path.home()
    except RuntimeError:  # an unknown user without HOME, as in some containers
        os.environ["HOME"] = tempfile.mkdtemp(prefix="faceshards-home-")
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
    if home := os.environ.get("PREFECT_HOME"):
        with contextlib.suppress(OSError, RuntimeError):  # the server then keeps its database elsewhere
            Path(home).expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)


def _profiles_path() -> Path:
    """Return where Prefect looks for the user's profiles."""
    home = os.environ.get("PREFECT_HOME") or Path.home() / ".prefect"
    return Path(os.environ.get("PREFECT_PROFILES_PATH") or Path(home, PROFILES_NAME))


def _reason(error: Exception) -> str:
    """Return what is wrong in one line, without the values of secrets."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(": ".join(map(str, (*fault["loc"], fault["msg"]))) for fault in error.errors())
    return " ".join(f"{type(error).__name__}: {error}".split())
