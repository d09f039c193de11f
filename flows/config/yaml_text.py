"""YAML of settings: a name that occurs twice is refused, and anchors may not multiply it without limit."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import yaml

from manifests.files import open_regular

MAX_BYTES: Final = 256 * 1024  # of a file; the YAML of all settings has 3 KB
MAX_VALUES: Final = 20_000  # after each alias is replaced by what it stands for

# What reading a file or text that holds no such YAML raises. ValueError: also an impossible date.
FAULTS: Final = (OSError, ValueError, RecursionError, yaml.YAMLError)


class _Loader(yaml.SafeLoader):
    """A loader that refuses what PyYAML accepts silently."""

    def get_single_node(self) -> Any:
        """Return the document's node, after names and size are checked."""
        node = super().get_single_node()
        if node is not None and _num_values(node, {}) > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES:,} values")
        return node


def parse_yaml(source: str | BufferedReader) -> object:
    """Return the value that YAML text or an open file holds.

    Raises:
        ValueError, RecursionError, yaml.YAMLError: it is not YAML, names something twice, or is too large.
    """
    return yaml.load(source, _Loader)  # noqa: S506  # a subclass of SafeLoader


def parse_yaml_file(path: Path) -> object:
    """Return the value that a YAML file holds.

    Raises:
        OSError: the path is not a regular file of settings that can be read.
        ValueError, RecursionError, yaml.YAMLError: see `parse_yaml`.
    """
    with open_regular(path, MAX_BYTES) as file:
        return parse_yaml(file)


def _num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values below a node, each alias counted as what it stands for.

    Raises:
        yaml.YAMLError: a mapping has a name twice.
    """
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # until it is counted: an alias of a node inside the node itself has no end
        below: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            _require_each_once([key for key, _ in node.value])
            below = [value for pair in node.value for value in pair]
        known[id(node)] = 1 + sum(_num_values(value, known) for value in below)
    return known[id(node)]


def _require_each_once(keys: list[yaml.Node]) -> None:
    """Raise if a name occurs twice."""
    lines: dict[str, int] = {}
    for key in (key for key in keys if isinstance(key, yaml.ScalarNode)):
        line = key.start_mark.line + 1
        if key.value in lines:
            raise yaml.YAMLError(f"{key.value!r} in line {lines[key.value]} and again in line {line}")
        lines[key.value] = line
