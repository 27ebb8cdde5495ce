"""`python -m embedmill` is the command `embedmill`."""

import sys

from embedmill.cli import main

if __name__ == "__main__":
    sys.exit(main())
