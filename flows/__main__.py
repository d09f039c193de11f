"""`python -m flows …` is `faceshards …`."""

import sys

from faceshards.__main__ import main

sys.exit(main())
