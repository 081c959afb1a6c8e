"""``python -m sdrt`` is the command line."""

import sys

from sdrt.cli import main

sys.exit(main())
