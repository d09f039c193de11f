"""`faceshards …` and `python -m faceshards …`: the command line."""

import sys

from faceshards import imported


def main() -> int:
    """Run one command and return the exit status."""
    try:
        command_line = imported("flows.cli.parser")
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    status: int = command_line.main()
    return status


if __name__ == "__main__":
    sys.exit(main())
