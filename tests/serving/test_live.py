from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serving.conftest import load
from tests.support.mill import Mill, items

from embedmill.errors import ProofFailed
from embedmill.release.admin import rollback
from embedmill.release.reader import Release
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Follower, Live
from embedmill.serving.served import Served


def test_a_request_keeps_its_release_while_the_next_one_is_swapped_in(mill: Mill) -> None:
    mill.run(items(40))
    live = Live(load(mill.live()))
    follower = Follower(mill.home, live, load)
    assert not follower.look()
    mill.run(items(50))
    with live.hold() as before:
        assert follower.look()
        assert before.release.number == 1
        assert before.alive
        with live.hold() as after:
            assert after.release.number == 2
    live.close()


def test_items_of_a_release_are_all_that_it_has_and_not_only_those_of_its_run(mill: Mill) -> None:
    mill.run(items(40))
    mill.run([*items(41), {"sku": "hollow"}])
    live = Live(load(mill.live()))
    said = TestClient(make_app(Server(live))).get("/release").json()
    assert said["items"] == {"embedded": 41, "empty": 1}
    live.close()


def test_a_release_that_cannot_be_served_is_named_and_the_old_one_stays(mill: Mill) -> None:
    mill.run(items(40))
    live = Live(load(mill.live()))
    mill.run(items(50))
    broken = mill.live().name
    assert not Follower(mill.home, live, fail).look()
    assert live.served.release.number == 1
    assert "not these vectors" in live.refused[broken]
    mill.run(items(60))
    assert Follower(mill.home, live, load).look()
    assert live.refused == {}, "another one is served now"
    live.close()


def test_a_refusal_is_over_once_what_is_served_is_live_again(mill: Mill) -> None:
    mill.run(items(40))
    live = Live(load(mill.live()))
    mill.run(items(50))
    follower = Follower(mill.home, live, fail)
    follower.look()
    assert set(live.refused) == {mill.live().name}
    rollback(mill.home, live.served.release.name)
    assert not follower.look()
    assert live.refused == {}
    live.close()


def fail(release: Release) -> Served:
    raise ProofFailed(f"release {release.name}: not these vectors")


def test_goldens_that_are_other_vectors_prevent_serving(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    mill.run(items(40))
    release = mill.live()
    embedding = release.model_folder / "model.onnx"
    assert embedding.is_file()
    reweigh(embedding)
    with pytest.raises(ProofFailed, match="goldens of the release"):
        load(release)


def reweigh(file: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name == "table":
            values = np.roll(numpy_helper.to_array(tensor), 1, axis=0)
            tensor.CopyFrom(numpy_helper.from_array(values, "table"))
    file.chmod(0o644)
    file.unlink()
    onnx.save(model, file)


def test_a_release_without_a_vector_is_served_and_finds_nothing(mill: Mill) -> None:
    mill.run([{"sku": "s1"}, {"sku": "s2"}])
    served = load(mill.live())
    assert [shown.goldens for shown in served.proof.encoders] == [0, 12]
    assert served.release.search("anything") == []
    served.close()
