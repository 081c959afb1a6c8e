"""The command line as `python -m sdrt`."""

import sys

from sdrt.command_line.main import main

sys.exit(main())
