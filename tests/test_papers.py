"""The papers for people who join: valid by their published schemas, and in agreement with what they describe."""

from __future__ import annotations

import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from skimage import data

from flows.cli.parser import _parser
from flows.config.preprocess import load_config
from tasks.detect import DETECTORS
from tasks.detect.detector import FaceDetector
from tasks.media import FrameBatch
from tests.helpers import source_tree
from tests.helpers.plugins import install, refresh

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {
    "CITATION.cff": "vendor.citation-file-format",
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = PROJECT["version"]
# Keep a Changelog 1.1.0's own.
KINDS_OF_CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_constraints_pin_every_requirement_for_every_python_that_is_named() -> None:
    """`scripts/constraints` writes the file; a requirement that was changed without it is found here."""
    pins: dict[str, list[Requirement]] = defaultdict(list)
    for line in text_of("constraints.txt").splitlines():
        if line and not line.startswith("#"):
            pins[Requirement(line).name].append(Requirement(line))
    pythons = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert pythons == ["3.11", "3.12", "3.13"]
    wanted = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, wanted):
        for python in pythons if requirement.name != PROJECT["name"] else ():
            here = {"python_version": python, "python_full_version": f"{python}.0"}
            found = [
                next(iter(pin.specifier)).version
                for pin in pins[canonicalize_name(requirement.name)]
                if pin.marker is None or pin.marker.evaluate(here)
            ]
            assert len(found) == 1, f"{requirement} on Python {python}: got {found}, expected one pin"
            assert requirement.specifier.contains(found[0], prereleases=True), f"{requirement}: got {found[0]}"


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


def test_every_dependency_is_named_with_its_licence() -> None:
    extras = (one for name, extra in PROJECT["optional-dependencies"].items() if name != "dev" for one in extra)
    names = {re.split(r"[<>=\[]", one)[0].lower() for one in (*PROJECT["dependencies"], *extras)}
    assert {name for name in names if name not in text_of("THIRD-PARTY.md").lower()} == set()


def test_the_changelog_is_kept_as_keep_a_changelog_says() -> None:
    text = text_of("CHANGELOG.md")
    released = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", text, flags=re.MULTILINE)
    assert re.findall(r"^## \[([^]]+)\]", text, flags=re.MULTILINE) == ["Unreleased", *released]
    assert released[0] == VERSION
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= KINDS_OF_CHANGES


# CONTRIBUTING.md


def blocks(language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of("CONTRIBUTING.md"), flags=re.MULTILINE | re.DOTALL)
    return [block for kind, block in found if kind == language]


def commands() -> list[str]:
    return [line.split("  #")[0].strip() for block in blocks() for line in block.splitlines() if line[:1].strip()]


@pytest.mark.parametrize("command", commands())
def test_every_command_can_be_given(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        assert set(words) <= set(re.findall(r"^([\w-]+):", text_of("Makefile"), flags=re.MULTILINE))
    elif program == "faceshards":
        _parser().parse_args([word.replace("brightened", "mtcnn") for word in words])
    else:
        assert program in {".venv/bin/pytest", ".venv/bin/pre-commit", "scripts/check"}
        assert not [word for word in words if "/" in word and not (ROOT / word).exists()]


@pytest.fixture
def brightened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FaceDetector]:
    """The detector that CONTRIBUTING.md shows, installed as the wheel that it shows."""
    (source,), (project,) = blocks("python"), blocks("toml")
    groups = tomllib.loads(project)["project"]["entry-points"]
    install(tmp_path, groups, source, monkeypatch, module="mylab_faces")
    refresh(DETECTORS, monkeypatch)
    return DETECTORS["brightened"]


def test_the_shown_detector_is_chosen_and_finds_what_is_too_dark_for_mtcnn(brightened: type[FaceDetector]) -> None:
    assert load_config(None, ["detect.kind=brightened"], {"dataset": {"root": "."}, "out": "out"}).detect.kind
    dark = (data.astronaut() // 24)[None]  # type: ignore[no-untyped-call]  # scikit-image has no types
    frames = FrameBatch(data=dark, frame_indices=np.arange(1), pts_seconds=np.zeros(1))
    ((face,),) = brightened().detect(frames)
    assert face.score > 0.9
    assert DETECTORS["mtcnn"]().detect(frames) == [[]]


def test_the_shown_registry_entry_is_the_registrys_line_and_one_more() -> None:
    (line,) = [line.strip() for block in blocks() for line in block.splitlines() if line.startswith(" ")]
    own, added = line.rsplit(", ", 1)
    assert added == '"brightened": BrightenedDetector},'
    assert f"{own}}}," in text_of("tasks/detect/__init__.py")


def test_every_family_is_in_the_table() -> None:
    table = re.findall(
        r"^\| `(faceshards\.\w+)` \| `([\w.]+)` \| `([\w/.]+)` \|$", text_of("CONTRIBUTING.md"), re.MULTILINE
    )
    registries = {group: pkgutil.resolve_name(":".join(name.rsplit(".", 1))) for group, name, _ in table}
    assert {group: registry.group for group, registry in registries.items()} == {group: group for group in registries}
    assert len(registries) == len(source_tree.registries())
    assert all((ROOT / contract).is_file() for _, _, contract in table)
