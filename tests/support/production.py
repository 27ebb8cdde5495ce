"""A server of production, as a program: lays a release out for Triton, and serves it.

    python tests/support/production.py RELEASE FOLDER PORT FAULT

FAULT is a file with one word, what the server does wrong: `none`, `dies`, `never-ready` or `permutes`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedmill import Release
from embedmill.deploy.triton import deploy_triton

sys.path.insert(0, str(Path(__file__).parent))
from oip import OipServer, listening  # type: ignore[import-not-found]


def main(arguments: Sequence[str]) -> None:
    folder, repository, port, fault = arguments
    word = Path(fault).read_text().strip()
    sys.stderr.write(f"production: {word}\n")
    if word == "dies":
        sys.exit("no licence")
    if word == "never-ready":
        time.sleep(600)
    deploy_triton(Release.open(folder), Path(repository))
    server = OipServer.load(Path(repository))
    if word == "permutes":
        server.faults.answer = lambda _, vectors: np.roll(vectors, 1, axis=0)
    with listening(server, int(port)) as listener:
        listener.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
