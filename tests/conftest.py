"""What every test has: skips that count, large counts, a cache of its own, and S3 servers (support/)."""

from __future__ import annotations

import signal

pytest_plugins = [
    "pytester",
    "tests.support.skips",
    "tests.support.groups",
    "tests.support.soak",
    "tests.support.mill",
    "tests.support.s3",
    "tests.support.sts",
    "tests.support.disk",
]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)
