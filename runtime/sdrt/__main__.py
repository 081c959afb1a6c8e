"""The command line as `python -m sdrt`."""

import sys

from sdrt_command import main

sys.exit(main())
