"""Commands of the command line: name, line of help, arguments, and the function that returns an exit status.

Each module of commands has a function `commands`. It is called when the parser is built, so that the choices of an
option are those of the registries at that moment. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

Options: TypeAlias = argparse.Namespace


class Argument:
    """A positional argument or an option, as a value that several commands can share.

    Args:
        name: the name of a positional argument, or the option string.
        text: its line of help.
        settings: further keyword arguments of `ArgumentParser.add_argument`.
    """

    def __init__(self, name: str, text: str, **settings: object) -> None:
        self.name = name
        self.settings: dict[str, object] = {"help": text, **settings}


def path(name: str, metavar: str, text: str, **settings: object) -> Argument:
    """Return an argument that is a path, with its name in the usage."""
    return Argument(name, text, type=path_from, metavar=metavar, **settings)


def path_from(text: str) -> Path:
    """Return the path that a user wrote; an empty one, such as from an unset variable, is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("got '', expected a path; the current folder is .")
    return Path(text)


def flag(name: str, text: str) -> Argument:
    """Return an option without a value, off by default."""
    return Argument(name, text, action="store_true")


def switch(name: str, text: str) -> Argument:
    """Return an option that is on by default, with a `--no-…` that turns it off."""
    return Argument(name, f"{text} (default: yes)", action=argparse.BooleanOptionalAction, default=True)


def several(name: str, text: str, **settings: object) -> Argument:
    """Return an argument of one or more words."""
    return Argument(name, text, nargs="+", **settings)


def repeated(name: str, metavar: str, text: str, **settings: object) -> Argument:
    """Return an option with a value, which may be given several times."""
    return Argument(name, text, action="append", default=[], metavar=metavar, **settings)


class Command:
    """One command of the command line, or a group of commands.

    Args:
        name: the word by which it is called.
        text: its line of help: a phrase that begins with a verb.
        run: runs it and returns the exit status; None for a group.
        arguments: its positional arguments in their order, and its options.
        commands: the commands of a group.
        examples: text after its help, printed as it is.
        metavar: word for a command of the group in the usage.
    """

    def __init__(
        self,
        name: str,
        text: str,
        run: Callable[[Options], int] | None = None,
        *arguments: Argument,
        commands: Iterable[Command] = (),
        examples: str | None = None,
        metavar: str = "COMMAND",
    ) -> None:
        self.name, self.text, self.run, self.arguments = name, text, run, arguments
        self.commands, self.examples, self.metavar = tuple(commands), examples, metavar


def add_commands(parser: argparse.ArgumentParser, commands: Iterable[Command], metavar: str = "COMMAND") -> None:
    """Add commands to a parser, and the commands of each group to the parser of the group."""
    parsers = parser.add_subparsers(title=f"{metavar.lower()}s", required=True, metavar=metavar)
    for command in commands:
        sentence = f"{command.text[0].upper()}{command.text[1:]}."
        own = parsers.add_parser(command.name, help=command.text, description=sentence)
        own.set_defaults(run=command.run, parser=own)
        if command.examples:
            own.epilog, own.formatter_class = command.examples, argparse.RawDescriptionHelpFormatter
        for argument in command.arguments:
            own.add_argument(argument.name, **argument.settings)  # type: ignore[arg-type]  # argparse checks them
        if command.commands:
            add_commands(own, command.commands, command.metavar)


# Arguments of several commands.
STORE = path("out", "OUT", "folder of the store")
CONFIG = path("--config", "FILE.yaml", "YAML file with settings; options override it")
TEST_DATASET = repeated(
    "--test", "ROOT2", "folder of another dataset, for testing only; may be repeated", type=path_from
)
DEVICE = Argument("--device", "device of the network: auto, cpu, cuda or cuda:N (default: auto)", default="auto")


def setting(example: str) -> Argument:
    """Return the option `--set`, with an example of a setting."""
    return repeated("--set", "NAME=VALUE", f"one setting, such as {example}; may be repeated")
