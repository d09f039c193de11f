"""The packages as text: their files, folders, syntax trees, imports and record classes."""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

REPO = Path(__file__).resolve().parents[2]
PACKAGES = ("manifests", "storage", "tasks", "training", "flows", "faceshards")


@cache
def tracked(*folders: str) -> tuple[PurePosixPath, ...]:
    """Return the files below folders of the repository that Git tracks or would add, relative to its root."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    names = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(sorted({PurePosixPath(name) for name in names if name and (REPO / name).is_file()}))


@cache
def entries(*folders: str) -> dict[PurePosixPath, frozenset[str]]:
    """Return the names in each folder, `__init__.py` and `__main__.py` left out."""
    found: dict[PurePosixPath, set[str]] = defaultdict(set)
    for path in tracked(*folders):
        for child in (path, *path.parents[:-2]):
            found[child.parent] |= {child.name} - {"__init__.py", "__main__.py"}
    return {folder: frozenset(names) for folder, names in found.items()}


def python_files(*packages: str) -> list[PurePosixPath]:
    """Return the Python files of packages."""
    return [path for path in tracked(*packages) if path.suffix == ".py"]


@cache
def text(path: PurePosixPath) -> str:
    """Return a file's text."""
    return (REPO / path).read_text(encoding="utf-8")


@cache
def tree(path: PurePosixPath) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(text(path))


@cache
def registries() -> dict[PurePosixPath, str]:
    """Return the folders whose `__init__.py` makes a `Registry`, and the name of the contract in its brackets."""
    found = {}
    for path in python_files(*PACKAGES):
        for node in ast.walk(tree(path)) if path.name == "__init__.py" else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).partition("[")[0] == "Registry":
                found[path.parent] = ast.unparse(node.func)
    return found


def module_name(path: PurePosixPath) -> str:
    """Return the dotted name by which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, PurePosixPath]:
    """Return the file of each module of the packages."""
    return {module_name(path): path for path in python_files(*PACKAGES)}


@cache
def imports(path: PurePosixPath, *, late: bool) -> frozenset[str]:
    """Return the modules of the packages that a file imports.

    Args:
        path: the file; relative imports do not occur, ruff's TID refuses them.
        late: whether to count imports inside functions and under `TYPE_CHECKING` too, or only those at the top level.
    """
    found = set()
    for node in _nodes(tree(path), late=late):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else node.module for name in names}
    return frozenset(found & modules().keys()) - {module_name(path)}


def _nodes(root: ast.AST, *, late: bool) -> Iterator[ast.AST]:
    """Yield the nodes below one; without `late`, not those that run later than the import or never."""
    for node in ast.iter_child_nodes(root):
        is_late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_late |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if late or not is_late:
            yield node
            yield from _nodes(node, late=late)


def fields(node: ast.ClassDef) -> Iterator[tuple[str, bool]]:
    """Yield the public annotated fields of a class, and whether a docstring literal stands under each."""
    for field, below in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if field.target.id.startswith("_") or "ClassVar" in ast.unparse(field.annotation):
            continue
        yield field.target.id, isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)


def classes(path: PurePosixPath) -> list[ast.ClassDef]:
    """Return all classes of a file."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]


def prose(path: PurePosixPath) -> list[tuple[int, str]]:
    """Return the comments and strings of a Python file, each with its first line's number; all lines of other files."""
    if path.suffix != ".py":
        return list(enumerate(text(path).splitlines(), 1))
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    words = tokenize.generate_tokens(io.StringIO(text(path)).readline)
    return [(token.start[0], token.string) for token in words if token.type in kinds]


def field_comments(path: PurePosixPath) -> list[str]:
    """Return where a comment stands on a line of its own right below a field."""
    lines = text(path).splitlines()
    ends = {
        statement.end_lineno or 0
        for node in classes(path)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    return [f"{path}:{row + 1}" for row in sorted(ends) if row < len(lines) and lines[row].lstrip().startswith("#")]
