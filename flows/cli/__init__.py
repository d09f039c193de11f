"""The command line: one module per noun; `faceshards` and `python -m flows` call `main`."""

from flows.cli.parser import main

__all__ = ["main"]
