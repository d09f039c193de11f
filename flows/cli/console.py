"""What the command line prints to: paths as they are (brackets are no markup, `:100:` is no emoji)."""

from __future__ import annotations

from rich.console import Console


class PipeConsole(Console):
    """A console that tells the program when nobody reads any more, instead of ending it with a status of its own."""

    def on_broken_pipe(self) -> None:
        """Raise what the write raised."""
        raise BrokenPipeError


def stdout() -> Console:
    """Return the console for what was asked for."""
    return PipeConsole(markup=False, emoji=False)


def stderr() -> Console:
    """Return the console for progress and complaints."""
    return Console(stderr=True, markup=False, emoji=False)
