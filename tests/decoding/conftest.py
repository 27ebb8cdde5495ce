from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.decoding.pictures import Viewer


@pytest.fixture(scope="module")
def view() -> Iterator[Viewer]:
    viewer = Viewer()
    yield viewer
    viewer.decoder.close()
