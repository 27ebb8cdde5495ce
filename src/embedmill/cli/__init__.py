"""The command `embedmill`: one module per group of commands, each parsing and printing only.

stdout is data, stderr is talk. Exit codes: 0 ok, 1 error, 2 usage, 3 a gate failed or publishing is held,
4 published with quarantined items, 75 yielded or try again, 130 stopped at a checkpoint.
"""

from embedmill.cli.importing import importing

with importing():
    from embedmill.cli.app import main

__all__ = ["main"]
