"""Output of commands: results on stdout, progress and error messages on stderr.

In paths, brackets are no markup and `:100:` is no emoji; control characters, and bytes that are not UTF-8, are escaped,
so that no file's name can move the cursor or end the program. Rich takes longer to import than `--help`
may take, so it is imported when something is printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from manifests.errors import EXIT_FAILED

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.status import Status
    from rich.text import Text


def stdout() -> Console:
    """Return a console on stdout."""
    from rich.console import Console

    class PipeConsole(Console):
        """A console that reports a closed pipe to the program; rich's own ends the program with status 1."""

        def on_broken_pipe(self) -> None:
            """Raise what the write raised."""
            raise BrokenPipeError

        def render_str(self, text: str, **options: Any) -> Text:
            """Return a text or a table's cell with its control characters escaped."""
            return super().render_str(_escaped(text), **options)

    return PipeConsole(markup=False, emoji=False)


def stderr() -> Console:
    """Return a console on stderr."""
    from rich.console import Console

    return Console(stderr=True, markup=False, emoji=False)


def _escaped(text: str) -> str:
    from manifests.datasets.walk import printable

    return "\n".join(map(printable, text.split("\n")))


def say(what: RenderableType) -> None:
    """Print a result: a table, or text that is not wrapped, so that it can be copied and searched."""
    stdout().print(what, soft_wrap=isinstance(what, str), highlight=False)


def complain(text: str, *, error: Exception | None = None) -> None:
    """Print a message on stderr; with an error, `text` is printed in red before the error's message."""
    from rich.text import Text

    line = _escaped(text) if error is None else Text.assemble((text, "red"), f" {_escaped(str(error))}")
    stderr().print(line, soft_wrap=True, highlight=False)


def progress_of(status: Status) -> Callable[[str], None]:
    """Return the function that shows a line of progress: in the status on a terminal, otherwise as a line on stderr."""
    return status.update if status.console.is_terminal else complain


def working(what: str) -> Status:
    """Return a context manager that shows what is being done; its `update` shows something else."""
    return stderr().status(what)


def end_process(message: str) -> None:
    """End this process with a message and status 1, from any thread; workers end with it, and locks are released."""
    stderr().show_cursor()  # a progress bar hides it
    complain(f"failed: {message}")
    sys.stdout.flush()
    os._exit(EXIT_FAILED)
