"""Every option that a message advises exists in the commands that print the message."""

from __future__ import annotations

import ast
import re
from argparse import ArgumentParser
from collections.abc import Iterator

import pytest

import storage.inspect as inspect_store
from flows.cli import parser as command_line
from tests.helpers import source_tree

PACKAGES = ("faceshards", "flows", "manifests", "storage", "tasks", "training")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# `faceshards preprocess … --option …`, `preprocess --option`, `python -m storage.inspect OUT --verify`
CALL = re.compile(r"`(?:faceshards )?(python -m storage\.inspect|[a-z]+(?: [a-z]+)?)\b([^`]*)`")
# Options of other programs, by module.
FOREIGN = {
    "flows/server/deploy.py": {"--no-prompt", "--all"},  # `prefect deploy`
    "tasks/workers/kept_pools.py": {"--no-nanny"},  # `dask worker`
    "training/data/loader.py": {"--shm-size"},  # `docker run`
}
# Modules → the commands that print their messages, where a message advises an option without naming its command.
PRINTED_BY = {
    "flows/cli/data.py": ("index",),
    "flows/cli/model.py": ("train",),
    "flows/cli/pipeline.py": ("run",),
    "flows/config/download.py": ("download ffpp",),
    "flows/config/store_config.py": ("preprocess",),
    "flows/run/download_plan.py": ("download ffpp",),
    "flows/run/sources.py": ("preprocess", "index"),
    "manifests/datasets/recognise.py": ("preprocess", "index"),
    "flows/run/splitting.py": ("preprocess",),
    "manifests/splits/policies.py": ("preprocess",),
    "storage/inspect.py": ("python -m storage.inspect",),
    "storage/upkeep/ledger.py": ("preprocess",),
    "tasks/decode/decoder.py": ("preprocess",),
    "training/data/crops.py": ("train", "evaluate"),
    "training/fit/callbacks.py": ("train",),
    "training/fit/lightning_module.py": ("train",),
    "training/fit/resume.py": ("train",),
    "training/fit/train.py": ("train",),
    "training/run_folder.py": ("train",),
}


def options_of(parser: ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def all_options() -> dict[str, set[str]]:
    """Return the options of each command by its words, such as `download ffpp`."""
    found = {parser.prog.partition(" ")[2]: options_of(parser) for parser in parsers()}
    return found | {"python -m storage.inspect": options_of(inspect_store._parser())}


def parsers() -> list[ArgumentParser]:
    return command_line._all_parsers(command_line._parser())


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module that a message may consist of: no docstrings, options' names or help."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(id(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DECLARING and node.args:
            left_out.add(id(node.args[0]))
        elif isinstance(node, ast.JoinedStr):
            left_out.update(id(part) for part in node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


DECLARING = {"Argument", "flag", "path", "repeated", "several", "setting", "switch", "parser.add_argument"}
DECLARING |= {"view.add_argument"}


def advice() -> Iterator[tuple[str, str, str, str | None]]:
    """Yield (module, text, option, the command that the text names or None)."""
    for path in source_tree.tracked(*PACKAGES):
        if path.suffix == ".py":
            for text in texts(ast.parse(source_tree.text(path))):
                calls = {place: call[1] for call in CALL.finditer(text) for place in range(*call.span())}
                for match in OPTION.finditer(text if " " in text else ""):  # a single word is no message
                    yield str(path), text, match[0], calls.get(match.start())


ADVICE = list(advice())


def test_there_is_advice() -> None:
    assert len(ADVICE) > 40
    assert {"--layout", "--reprocess", "--verify"} <= {option for *_, option, _ in ADVICE}


@pytest.mark.parametrize(("module", "text", "option", "command"), ADVICE, ids=lambda value: str(value)[:60])
def test_advised_options_exist(module: str, text: str, option: str, command: str | None) -> None:
    known = all_options()
    if option in FOREIGN.get(module, ()):
        return
    if command is not None:
        assert any(option in known[words] for words in (command, command.split()[0]) if words in known), command
    elif re.match(rf"{option}[^:]*: ", text):  # what is wrong with an option that the user gave
        assert any(option in options for options in known.values())
    else:
        assert module in PRINTED_BY, f"name the command in the message, as in `preprocess {option}`"
        for words in PRINTED_BY[module]:
            assert option in known[words], words


def test_commands_in_messages_exist() -> None:
    known = {words.split()[0] for words in all_options() if words}
    called = {
        (str(path), word)
        for path in source_tree.tracked(*PACKAGES)
        if path.suffix == ".py"
        for text in texts(ast.parse(source_tree.text(path)))
        for word in re.findall(r"`faceshards ([a-z]+)", text)
    }
    assert len(called) > 10
    assert {(path, word) for path, word in called if word not in known} == set()
