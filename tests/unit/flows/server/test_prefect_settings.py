"""Settings that Prefect cannot read are one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.server.prefect_settings import prefect_settings
from manifests.errors import ConfigError

# In a process of its own: Prefect reads its settings once, when it is imported.
READS = """
import sys
from flows.server.prefect_settings import prefect_settings
from manifests.errors import ConfigError
try:
    print("home", prefect_settings().home)
except ConfigError as error:
    print("refused", error)
"""


def test_profiles_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text("active = [\n")
    ran = subprocess.run(
        [sys.executable, "-c", READS],
        env=os.environ | {"PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.stdout.startswith("refused Prefect's settings: got TOMLDecodeError: ")
    assert f"{tmp_path}/profiles.toml as Prefect can read" in ran.stdout
    assert ran.stdout.count("\n") == 1


def test_certificates_that_do_not_exist_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/not/there.pem")
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: got /not/there\.pem, which does not exist"):
        prefect_settings()
