"""`python -m tests.support.dying_worker PIPELINE.yaml RUN FOLDER`: a loop that ends as by `kill -9`.

It does so instead of creating its third object in a folder: `leases`, where it claims a shard ahead;
`vectors`, where it writes one behind; `commits`, where it commits one.
"""

from __future__ import annotations

import sys

from tests.support.dying import die

from embedmill import Pipeline
from embedmill.release.layout import Home
from embedmill.store.base import Body
from embedmill.store.local import LocalStore
from embedmill.work import WorkerOptions, work


class DyingStore(LocalStore):
    """A store whose process dies at its third create below a folder."""

    def __init__(self, url: str, folder: str) -> None:
        super().__init__(url)
        self.folder, self.created = folder, 0

    def put_if_absent(self, key: str, body: Body) -> str:
        self.created += f"/{self.folder}/" in key
        if self.created == 3:
            die()
        return super().put_if_absent(key, body)


def main(spec: str, run: str, folder: str) -> None:
    home = Pipeline.from_file(spec).home
    work(Home(DyingStore(home.store.url, folder), home.pipeline), run, WorkerOptions("dying"))


if __name__ == "__main__":
    main(*sys.argv[1:])
