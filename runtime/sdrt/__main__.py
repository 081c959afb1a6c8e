"""`python -m sdrt` is the command line."""

import sys

from sdrt.command_line.main import main

sys.exit(main())
