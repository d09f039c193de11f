from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_prefect_home_is_made_with_its_parents(tmp_path: Path) -> None:
    # In a process of its own: Prefect reads its settings, and warns about a missing home, once, when it is imported.
    home = tmp_path / "not" / "there" / "yet"
    environment = os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    code = "from flows.embedded import start_embedded_server; start_embedded_server()"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert home.is_dir()
    assert "home directory" not in ran.stderr
    assert "ConfigError: PREFECT_API_URL: got http://127.0.0.1:9/api" in ran.stderr
