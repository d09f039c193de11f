"""The command line: `faceshards …` or `python -m flows …`.

Exit status: 0 success, 1 failure (no video could be stored, a flow failed), 2 a mistake in the call or a store that
cannot be used, 130 interrupted; `manifests.errors.exit_status` decides.

Nothing heavy is imported before a command runs: `--help` needs neither torch nor Prefect.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from flows.cli import data, download, model, pipeline, preprocess, setup, store
from flows.cli.command import add_commands, path_from
from flows.cli.console import complain
from flows.cli.extras import PACKAGES, missing_package
from manifests.errors import EXIT_OK, EXIT_USAGE, FaceshardsError, did_you_mean, exit_status

# Telemetry is off: Prefect's client obeys the first variable, its server the second.
QUIET_PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The command line prints each failure once; Prefect would print it again with a traceback.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    # The embedded server may be stopped in the middle of its work, and would print tracebacks then.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
SHELLS = ("bash", "zsh", "tcsh")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: words of the command line, without the program's name.
    """
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.refuse(unknown)
    handler = StderrHandler(logging.INFO if options.verbose else logging.WARNING)
    logging.basicConfig(format="%(message)s", handlers=[handler], force=True)
    for name, value in QUIET_PREFECT.items():
        os.environ.setdefault(name, value)
    try:
        return int(options.run(options))
    except BrokenPipeError:
        # The reader (`| head`) has closed the pipe. Python would report it again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in PACKAGES:
            raise
        return _failed(missing_package(error))
    except (FaceshardsError, OSError) as error:
        return _failed(error)
    except KeyboardInterrupt as interrupt:
        complain("interrupted; run the same command again to resume")
        return exit_status(interrupt)


def _failed(error: Exception) -> int:
    """Print an error in one line and return its exit status."""
    status = exit_status(error)
    complain("error:" if status == EXIT_USAGE else "failed:", error=error)
    return status


class StderrHandler(logging.Handler):
    """A log handler that writes to the current stderr: while a progress bar is shown, messages appear above it.

    Public, because Prefect takes over the root logger from handlers whose name begins with an underscore.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(f"{self.format(record)}\n")


class Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest name for an unknown one, and colours its help on a terminal."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and a message, and exit with status 2."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        hint = did_you_mean(choice[1], re.findall(r"[^\s',]+", choice[2])) if choice else ""
        super().error(message + hint)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exit for words that are neither arguments nor options of the command."""
        hint = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def format_help(self) -> str:
        """Return the help, in colour on a terminal; a pipe needs no colour, and importing rich takes time."""
        if sys.stdout.isatty():
            from rich_argparse import RawDescriptionRichHelpFormatter, RichHelpFormatter

            has_examples = self.formatter_class is argparse.RawDescriptionHelpFormatter
            self.formatter_class = RawDescriptionRichHelpFormatter if has_examples else RichHelpFormatter
        return super().format_help()


class PrintCompletion(argparse.Action):
    """The option that prints a shell's completion script and exits."""

    def __call__(self, parser: argparse.ArgumentParser, _options: object, shell: object, _word: object = None) -> None:
        """Print the script; arguments that are paths are completed as file names."""
        import shtab

        for own in _all_parsers(parser):
            for action in own._actions:
                if action.type is path_from:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]  # an attribute that shtab looks for
        sys.stdout.write(f"{shtab.complete(parser, str(shell))}\n")
        parser.exit()


def _all_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and those of all commands below it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(found for group in groups for own in group.choices.values() for found in _all_parsers(own))]


def _parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="faceshards",
        description="Turn deepfake datasets into training-ready data.",
        epilog="Exit status: 0 success, 1 failure, 2 wrong command, dataset or store, 130 interrupted.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log progress, not only warnings")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print the completion script of a shell and exit",
    )
    nouns = (preprocess, pipeline, data, download, store, model, setup)
    add_commands(parser, [command for noun in nouns for command in noun.commands()])
    return parser
