"""The house rules that a program can check (ARCHITECTURE.md): folders, names, imports, and how they are described."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

import pytest

from tests.helpers import source_tree
from tests.helpers.source_tree import PACKAGES, REPO, classes, python_files, tree

MAY_IMPORT = {
    "manifests": set(),
    "storage": {"manifests"},
    "tasks": {"manifests", "storage"},
    "training": {"manifests", "storage"},
    "flows": {"manifests", "storage", "tasks", "training"},
    "faceshards": {"manifests", "storage", "tasks", "training", "flows"},
}
PREFECT_ALLOWED_IN = {PurePosixPath("tasks/process.py")}

# The folders of each package from bottom to top: each imports only those before it. "" is the files directly in the
# package, where all of them have one place; elsewhere they lie between the folders, and only a circle is refused.
FLOORS = {
    "manifests": ("probe", "datasets", "protocols", "splits", "leakage", "miniature"),
    "storage": ("pages", "files", "format", "upkeep", "exports"),
    "tasks": ("download", "models", "track", "decode", "detect", "align", "landmarks", "video", "workers"),
    "training": ("presets", "data", "models", "evaluation", "fit", "quality"),
    "flows": ("config", "report", "server", "run", "", "cli"),
    "faceshards": (),
}

ENTRANCES = {"flows.__main__"}  # which may import anything

MAX_ENTRIES = 15

# Phrases that have to be read twice.
DIALECT = re.compile(
    r"\b(a look (at|for|into|of)|anew|as they are|at hand|gone on with|goes on from|judges?|judged|let \w+ go|no family"
    r"|into a knot|of some videos|what it is is|whoever|whose each)\b",
    re.IGNORECASE,
)


# 1: folders


def test_a_folder_has_at_most_fifteen_entries() -> None:
    folders = source_tree.entries(*PACKAGES, "tests", "docs")
    full = {
        str(folder): len(names)
        for folder, names in folders.items()
        if len(names) > MAX_ENTRIES and folder not in source_tree.registries()
    }
    assert full == {}


def test_a_file_fits_in_450_lines_and_a_function_on_a_screen() -> None:
    long = [str(path) for path in python_files(*PACKAGES) if len(source_tree.text(path).splitlines()) > 450]
    functions = [
        f"{path}: {node.name}"
        for path in python_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long + functions == []


# 2: families


def test_a_family_is_one_folder() -> None:
    folders = source_tree.entries(*PACKAGES)
    twins = {path.with_name(path.stem + ending) for path in python_files(*PACKAGES) for ending in ("s", "es")}
    assert twins & folders.keys() == set()


@pytest.mark.parametrize("folder", source_tree.registries(), ids=str)
def test_a_family_has_its_contract_and_its_implementations_in_its_folder(folder: PurePosixPath) -> None:
    own = {
        name: module
        for node in ast.walk(tree(folder / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (alias.name for alias in node.names)
        if (module := node.module).startswith(".".join(folder.parts))
    }
    contract = set(re.findall(r"\w+", source_tree.registries()[folder])) & own.keys()
    assert contract, f"{folder}/__init__.py: expected Registry[Contract], with a contract out of the same folder"


# 3: names


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_given_twice_within_a_package(package: str) -> None:
    """Excepted: presets, templates, a flow's settings and command, and an implementation of a contract in a folder."""
    places = defaultdict(set)
    for path in source_tree.tracked(package):
        if not path.stem.startswith("__") and not {"presets", "templates"} & set(path.parts[1:]):
            places[path.stem].add(path.parent)
    for folder in source_tree.registries():
        for names in places.values():
            names -= {inner for inner in names if inner.parent == folder and folder in names}
    for flow in PurePosixPath("flows"), PurePosixPath("flows/config"), PurePosixPath("flows/cli"):
        for names in places.values():
            names -= {flow} if len(names) > 1 else set()
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


# 4: flows


def is_flow(node: ast.AST) -> bool:
    """Whether a statement is a function under Prefect's decorator, with or without arguments."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        ast.unparse(decorator).partition("(")[0] in ("flow", "prefect.flow") for decorator in node.decorator_list
    )


def test_a_file_directly_in_flows_is_a_flow() -> None:
    files = [path for path in python_files("flows") if len(path.parts) == 2 and not path.stem.startswith("__")]
    assert [path.stem for path in files if not any(map(is_flow, tree(path).body))] == []


# 5: fields


@pytest.mark.parametrize("package", PACKAGES)
def test_fields_have_a_docstring(package: str) -> None:
    bare = [
        f"{path}: {node.name}.{field}"
        for path in python_files(package)
        for node in classes(path)
        for field, has_docstring in source_tree.fields(node)
        if not has_docstring
    ]
    assert bare == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_comment_stands_under_a_field(package: str) -> None:
    assert [where for path in python_files(package) for where in source_tree.field_comments(path)] == []


# 6: language


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_public_classes_have_a_docstring_whose_first_line_is_a_sentence(package: str) -> None:
    bad = []
    for path in python_files(package):
        public: list[ast.Module | ast.ClassDef] = [node for node in classes(path) if not node.name.startswith("_")]
        for node in [tree(path), *public]:
            first, *_ = (ast.get_docstring(node) or "").splitlines() or [""]
            if not first.endswith((".", ":")) and path.name != "__init__.py":
                bad.append(f"{path}: {getattr(node, 'name', 'module')}: {first!r}")
    assert bad == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_phrase_has_to_be_read_twice(package: str) -> None:
    found = [
        f"{path}:{row}: {match[0]}"
        for path in source_tree.tracked(package)
        for row, words in source_tree.prose(path)
        for match in DIALECT.finditer(words)
    ]
    assert found == []


# Imports


def imported_packages(path: PurePosixPath) -> set[str]:
    """Return the first parts of every module name that a file imports, wherever in the file."""
    nodes = list(ast.walk(tree(path)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of a circle in a graph, the first one again at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imports(name: str, *, late: bool = True) -> set[str]:
    """Return the modules that a module imports."""
    return set(source_tree.imports(source_tree.modules()[name], late=late))


def entry_below(folder: str, name: str) -> str:
    """Return the file or folder directly in a folder that holds a module; empty for the folder's own `__init__`."""
    return name.removeprefix(folder).partition(".")[2].partition(".")[0] if f"{name}.".startswith(f"{folder}.") else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_goes_up(package: str) -> None:
    for path in (path for path in python_files(package) if source_tree.module_name(path) not in ENTRANCES):
        own = imported_packages(path) & set(MAY_IMPORT)
        assert own <= MAY_IMPORT[package] | {package}, f"{path} imports {own}"


@pytest.mark.parametrize("late", [False, True], ids=["top level", "late and types too"])
def test_no_modules_import_each_other_in_a_circle(late: bool) -> None:
    assert circle({name: imports(name, late=late) for name in source_tree.modules()}) == []


@pytest.mark.parametrize("folder", sorted(".".join(one.parts) for one in source_tree.entries(*PACKAGES) if one.parts))
def test_no_entries_of_a_folder_import_each_other_in_a_circle(folder: str) -> None:
    """A folder within the folder counts as one."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name in source_tree.modules():
        if entry := entry_below(folder, name):
            graph[entry] |= {entry_below(folder, other) for other in imports(name)} - {entry, ""}
    assert circle(graph) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_of_a_package_import_only_those_below(package: str) -> None:
    places = {}
    for path in python_files(package):
        places[source_tree.module_name(path)] = path.parts[1] if len(path.parts) > 2 else ""
    floors = FLOORS[package]
    assert set(places.values()) <= {*floors, ""}, "expected each folder in FLOORS"
    upwards = [
        f"{name} imports {other}"
        for name, place in places.items()
        if place in floors and name not in ENTRANCES
        for other in imports(name) & places.keys()
        if places[other] in floors and floors.index(places[other]) > floors.index(place)
    ]
    assert upwards == []


@pytest.mark.parametrize("package", ["manifests", "storage", "tasks", "training"])
def test_only_one_file_below_flows_knows_prefect(package: str) -> None:
    knowing = {path for path in python_files(package) if "prefect" in imported_packages(path)}
    assert knowing <= PREFECT_ALLOWED_IN


def test_unit_tests_mirror_the_packages() -> None:
    for path in source_tree.tracked("tests/unit"):
        if path.name.startswith("test_"):
            name = path.name.removeprefix("test_").replace("init.py", "__init__.py")
            module = PurePosixPath(*path.parts[2:-1], name)
            assert module in source_tree.tracked(*PACKAGES), f"{path}: expected a module {module}"


# What is light to import


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import storage.store", {"torch", "prefect", "pandas", "pyarrow", "av"}),
        ("import storage.inspect", {"torch", "prefect", "pandas", "pyarrow", "av"}),
        ("import manifests.datasets", {"torch", "prefect", "pandas", "pyarrow", "av", "cv2"}),
        ("import flows.cli.parser", {"torch", "prefect", "pandas", "pyarrow", "av", "cv2"}),
        ("import tasks.video.video", {"torch", "prefect", "pandas", "pyarrow"}),
    ],
)
def test_heavy_things_load_late(statement: str, forbidden: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True)
    assert not forbidden & set(run.stdout.split())
