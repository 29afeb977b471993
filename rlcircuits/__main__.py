# PYTHON_ARGCOMPLETE_OK
"""``python -m rlcircuits`` is the command line, for where its script is not on the path."""

import sys

from rlcircuits.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
