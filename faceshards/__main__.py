"""`python -m faceshards …` is `faceshards …`."""

import sys

from flows.cli.parser import main

sys.exit(main())
