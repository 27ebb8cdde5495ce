"""One peer, once, in a process of its own: prints seconds as JSON, and leaves its vectors in OUT.

python -m benchmarks.text.job PEER FOLDER SOURCE SETTINGS OUT
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.text import loops, peers
from benchmarks.text.peers import Peer

PEERS: Mapping[str, type[Peer]] = {
    "embedmill": peers.Embedmill,
    "bare loop": loops.Bare,
    "bare program": loops.Program,
    "plain loop": loops.Plain,
    "sentence-transformers": peers.SentenceTransformers,
    "fastembed": peers.FastEmbed,
    "Ray Data": peers.RayData,
}


def main() -> None:
    name, folder, source, settings, out = sys.argv[1:6]
    began = time.perf_counter()
    peer = PEERS[name](Path(folder), Path(source), json.loads(settings), Path(out))
    ready = time.perf_counter() - began
    seconds = peer.timed()
    print(json.dumps({"ready": ready, "seconds": seconds, "others": peer.afterwards()}))


if __name__ == "__main__":
    main()
