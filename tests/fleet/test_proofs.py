"""A new image is taken on a type of GPU once it is proven there; until then the replaced one stays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.fleet.facts import NOW, gpu, host

from embedmill.errors import StoreError, Yielded
from embedmill.fleet.matching import match_fleet
from embedmill.fleet.proofs import Proofs, image_digest, key_of, prove_missing
from embedmill.spec.document import written
from embedmill.spec.fleet_reports import FleetMatch, FleetProbe, GpuMatch, ImageProof, ServerProbe
from embedmill.spec.host import GpuFacts, MigDevice
from embedmill.spec.images import ImageSpec, ImagesSpec
from embedmill.store.memory import MemoryStore

MODEL = "ef" * 32
DRIVER = "535.183.01"
T4 = gpu(uuid="GPU-t4")
A100 = gpu(uuid="GPU-a100", index=1, name="NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
V100 = gpu(uuid="GPU-v100", index=2, name="Tesla V100-SXM2-16GB", compute_capability=(7, 0))


def image(letter: str, **changed: Any) -> ImageSpec:
    values = {
        "image": f"registry/{letter}@sha256:{letter * 64}",
        "runtimes": {"onnx": "1.22.0"},
        "cuda": "12.2",
        "sass": ["7.0", "7.5", "8.0"],
    }
    return ImageSpec(**{**values, **changed})


IMAGES = ImagesSpec(images={"new": image("a", replaces="old"), "other": image("b"), "old": image("c")})


def probe(*gpus: GpuFacts, driver: str | None = DRIVER) -> FleetProbe:
    server = ServerProbe(server="gpu-01", state="ok", reason="", seconds=1, facts=host(*gpus, driver=driver))
    return FleetProbe(taken=written(NOW), seconds=1, servers=(server,))


def proof(name: str, card: GpuFacts = T4, *, images: ImagesSpec = IMAGES, **changed: Any) -> ImageProof:
    spec = images.images[name]
    values: dict[str, Any] = {
        "key": key_of(spec, card.name, DRIVER, MODEL),
        "passed": True,
        "reason": "256 goldens, lowest cosine 0.99998",
        "baseline": image_digest(images.images[spec.replaces]) if spec.replaces else "cpu",
        "lowest_cosine": 0.99998,
        "goldens": 256,
        "seconds": 12.5,
        "taken": written(NOW),
    }
    return ImageProof(**{**values, **changed})


@pytest.fixture
def proofs() -> Proofs:
    return Proofs(MemoryStore("proofs"))


def chosen(
    proofs: Proofs | None, *gpus: GpuFacts, images: ImagesSpec = IMAGES, model: str = MODEL, **options: Any
) -> list[tuple[str | None, str]]:
    found = match_fleet(probe(*gpus or (T4,)), images, proofs, model=model, **options)
    return [(each.chosen, each.reason) for each in found.gpus]


def test_a_new_image_waits_for_its_proof_and_the_old_one_stays(proofs: Proofs) -> None:
    ((name, reason),) = chosen(proofs)
    assert name == "old"
    assert reason.endswith("; not new: it is not proven on Tesla T4 with driver 535.183.01 against old")


def test_a_proof_takes_it_on_its_type_of_gpu_and_on_no_other(proofs: Proofs) -> None:
    proofs.keep(proof("new"))
    names = [name for name, _ in chosen(proofs, T4, A100)]
    assert names == ["new", "old"]


@pytest.mark.parametrize(
    "changed",
    [
        {"driver": "550.54.14"},
        {"gpu": "Tesla T4 16GB"},
        {"model": "00" * 32},
        {"image": "sha256:" + "d" * 64},
    ],
)
def test_a_proof_of_another_driver_gpu_model_or_image_says_nothing(
    proofs: Proofs, changed: dict[str, str]
) -> None:
    kept = proof("new")
    proofs.keep(kept.model_copy(update={"key": kept.key.model_copy(update=changed)}))
    assert chosen(proofs)[0][0] == "old"


def test_a_failed_proof_keeps_the_old_image_and_says_why(proofs: Proofs) -> None:
    proofs.keep(proof("new", passed=False, reason="lowest cosine 0.91 of 256 goldens"))
    ((name, reason),) = chosen(proofs)
    assert name == "old"
    assert "not new: it failed its proof on Tesla T4" in reason
    assert reason.endswith("lowest cosine 0.91 of 256 goldens")


def test_a_proof_against_something_else_does_not_count_where_the_old_image_runs(proofs: Proofs) -> None:
    proofs.keep(proof("new", baseline="cpu"))
    ((name, reason),) = chosen(proofs)
    assert name == "old"
    assert "was against cpu, and not old" in reason


def test_where_the_old_image_does_not_run_a_proof_against_the_cpu_counts(proofs: Proofs) -> None:
    images = ImagesSpec(
        images={"new": image("a", replaces="old", sass=["7.5", "9.0"]), "old": image("c", sass=["8.0"])}
    )
    assert chosen(proofs, images=images)[0][0] is None
    proofs.keep(proof("new", images=images, baseline="cpu"))
    assert chosen(proofs, images=images)[0][0] == "new"


def test_an_image_that_replaces_none_is_taken_until_it_is_disproved(proofs: Proofs) -> None:
    images = ImagesSpec(images={"first": image("b"), "second": image("c")})
    assert chosen(proofs, images=images)[0][0] == "first"
    proofs.keep(proof("first", images=images, passed=False, reason="not finite"))
    ((name, reason),) = chosen(proofs, images=images)
    assert name == "second"
    assert "not first: it failed its proof" in reason


def test_a_chain_of_images_falls_back_to_the_newest_that_is_proven(proofs: Proofs) -> None:
    chain = ImagesSpec(
        images={"v3": image("a", replaces="v2"), "v2": image("b", replaces="v1"), "v1": image("c")}
    )
    assert chosen(proofs, images=chain)[0][0] == "v1"
    proofs.keep(proof("v2", images=chain))
    assert chosen(proofs, images=chain)[0][0] == "v2"
    proofs.keep(proof("v3", images=chain))
    assert chosen(proofs, images=chain)[0][0] == "v3"


def test_images_that_replace_each_other_end(proofs: Proofs) -> None:
    circle = ImagesSpec(images={"a": image("a", replaces="b"), "b": image("b", replaces="a")})
    ((name, reason),) = chosen(proofs, images=circle)
    assert name is None
    assert "not a: it is not proven" in reason
    assert "not b: it is not proven" in reason


@pytest.mark.parametrize(("known", "model"), [(False, MODEL), (True, "")])
def test_without_proofs_or_a_model_nothing_is_proven(proofs: Proofs, known: bool, model: str) -> None:
    proofs.keep(proof("new"))
    assert chosen(proofs if known else None, model=model)[0][0] == "old"


def test_a_proof_is_kept_until_it_is_forgotten(proofs: Proofs) -> None:
    first, second = proof("new", passed=False), proof("new")
    assert proofs.find(first.key) is None
    assert proofs.keep(first) == first
    assert proofs.keep(second) == first
    assert proofs.find(first.key) == first
    proofs.forget(first.key)
    assert proofs.keep(second) == second


def test_a_damaged_proof_is_an_error_that_names_it(proofs: Proofs) -> None:
    proofs.keep(proof("new"))
    (entry,) = proofs.store.list("image-proofs")
    proofs.store.put(entry.key, b"{}")
    with pytest.raises(StoreError, match=entry.key):
        chosen(proofs)


@dataclass
class Prover:
    """Answers for GPUs, and remembers which it was asked about; a UUID in `away` gives no answer."""

    away: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    passed: bool = True

    def __call__(self, card: GpuMatch, spec: ImageSpec) -> ImageProof:
        self.asked.append(card.uuid)
        if card.uuid in self.away:
            raise Yielded("the GPU was wanted back")
        (name,) = (name for name, each in IMAGES.images.items() if each == spec)
        return proof(name, gpu(name=card.name), passed=self.passed)


def matched(proofs: Proofs, *gpus: GpuFacts) -> FleetMatch:
    return match_fleet(probe(*gpus), IMAGES, proofs, model=MODEL)


def test_every_type_of_gpu_is_proven_once_and_then_never_again(proofs: Proofs) -> None:
    second = T4.model_copy(update={"uuid": "GPU-t4-2"})
    prover = Prover()
    found = matched(proofs, T4, second, A100)
    tried = list(prove_missing(found, IMAGES, proofs, MODEL, prover))
    assert prover.asked == ["GPU-t4", "GPU-a100"]
    assert [(each.image, each.key.gpu) for each in tried] == [("new", T4.name), ("new", A100.name)]
    assert [each.chosen for each in matched(proofs, T4, second, A100).gpus] == ["new"] * 3
    assert list(prove_missing(found, IMAGES, proofs, MODEL, prover)) == []


def test_a_proof_that_could_not_be_run_proves_nothing_and_the_next_gpu_is_tried(proofs: Proofs) -> None:
    second = T4.model_copy(update={"uuid": "GPU-t4-2"})
    prover = Prover(away={"GPU-t4"})
    tried = list(prove_missing(matched(proofs, T4, second), IMAGES, proofs, MODEL, prover))
    assert prover.asked == ["GPU-t4", "GPU-t4-2"]
    assert [(each.proof is None, each.said) for each in tried] == [
        (True, "the GPU was wanted back"),
        (False, "256 goldens, lowest cosine 0.99998"),
    ]


def test_a_failed_proof_is_kept_too(proofs: Proofs) -> None:
    prover = Prover(passed=False)
    list(prove_missing(matched(proofs, T4), IMAGES, proofs, MODEL, prover))
    assert [each.chosen for each in matched(proofs, T4).gpus] == ["old"]
    assert list(prove_missing(matched(proofs, T4), IMAGES, proofs, MODEL, prover)) == []


def test_a_proof_of_something_else_is_refused(proofs: Proofs) -> None:
    with pytest.raises(ValueError, match="was asked for"):
        list(prove_missing(matched(proofs, T4), IMAGES, proofs, MODEL, lambda *_: proof("new", A100)))


def test_images_that_do_not_run_are_not_proven(proofs: Proofs) -> None:
    prover = Prover()
    old_driver = match_fleet(probe(T4, driver="470.57.02"), IMAGES, proofs, model=MODEL)
    assert list(prove_missing(old_driver, IMAGES, proofs, MODEL, prover)) == []
    assert prover.asked == []


def test_a_gpu_that_no_image_runs_on_says_why_for_each() -> None:
    (found,) = match_fleet(probe(T4, driver="470.57.02"), IMAGES).gpus
    assert found.chosen is None
    assert found.reason.count("535.54.03") == 3
    assert all(f"{name}: " in found.reason for name in IMAGES.images)


def test_servers_that_did_not_answer_are_named_with_the_reason() -> None:
    silent = ServerProbe(server="gpu-02", state="timeout", reason="no answer in 30 s", seconds=30)
    bare = ServerProbe(server="gpu-03", state="no-gpu", reason="", seconds=1, facts=host())
    asked = probe(T4).model_copy(update={"servers": (*probe(T4).servers, silent, bare)})
    found = match_fleet(asked, IMAGES)
    assert [each.server for each in found.gpus] == ["gpu-01"]
    assert found.unanswered == {"gpu-02": "timeout: no answer in 30 s", "gpu-03": "no-gpu"}


def test_the_model_may_need_a_runtime_that_an_image_does_not_have() -> None:
    ((name, reason),) = chosen(None, runtimes=["tensorflow", "torch"])
    assert name is None
    assert "old: the model needs tensorflow or torch, and the image has onnx" in reason
    assert chosen(None, runtimes=["torch", "onnx"])[0][0] == "old"


def test_slices_are_matched_in_the_place_of_their_gpu(proofs: Proofs) -> None:
    devices = tuple(
        MigDevice(uuid=f"MIG-{letter}", profile="1g.10gb", memory_bytes=1, used_bytes=0) for letter in "ab"
    )
    found = match_fleet(probe(A100.model_copy(update={"mig": True, "mig_devices": devices})), IMAGES, proofs)
    assert [(each.uuid, each.name, each.chosen) for each in found.gpus] == [
        ("MIG-a", "NVIDIA A100-SXM4-80GB 1g.10gb", "old"),
        ("MIG-b", "NVIDIA A100-SXM4-80GB 1g.10gb", "old"),
    ]
