"""The papers for people who join: valid by their published schemas, and in agreement with what they describe."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {
    "CITATION.cff": "vendor.citation-file-format",
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
# Keep a Changelog 1.1.0's own.
KINDS_OF_CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def targets_in(text: str) -> list[str]:
    """Make targets that a script or a workflow calls."""
    return re.findall(r"^\s*(?:- run: )?make ([\w-]+)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", SCHEMAS)
def test_files_obey_their_schemas(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[name], name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_github_form_is_checked() -> None:
    forms = {str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.yml")}
    assert forms == {name for name in SCHEMAS if name.startswith(".github/")}


def test_the_workflow_calls_the_targets_of_ci() -> None:
    called = targets_in(text_of(".github/workflows/ci.yml"))
    assert called == targets_in(text_of(".ci/run")) != []
    for target in called:
        assert re.search(rf"^{target}:", text_of("Makefile"), flags=re.MULTILINE), target


def test_the_citation_is_of_this_version() -> None:
    assert yaml.safe_load(text_of("CITATION.cff"))["version"] == VERSION


def test_the_changelog_is_kept_as_keep_a_changelog_says() -> None:
    text = text_of("CHANGELOG.md")
    released = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", text, flags=re.MULTILINE)
    assert re.findall(r"^## \[([^]]+)\]", text, flags=re.MULTILINE) == ["Unreleased", *released]
    assert released[0] == VERSION
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= KINDS_OF_CHANGES
