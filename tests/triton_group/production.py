"""A server of production, as a program: lays a release out for a real Triton, starts it, and ends it.

python tests/triton_group/production.py RELEASE FOLDER PORT
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from embedmill import Release
from embedmill.deploy.triton import deploy_triton

sys.path.insert(0, str(Path(__file__).parent))
from server import Triton  # type: ignore[import-not-found]


def main() -> None:
    release, folder, port = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Triton(Path(folder), http=int(port))
    deploy_triton(Release.open(release), server.models)
    try:
        server.start()
        signal.pause()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
