"""A pipeline.yaml with every field filled, as plans and contents hold it."""

from __future__ import annotations

from embedmill.spec.jenkins_workers import AgentFamilySpec, JenkinsWorkersSpec
from embedmill.spec.kubernetes import FamilySpec, KubernetesSpec, NightlySpec, TpuSpec
from embedmill.spec.pipeline import CatalogSpec, FetchSpec, GateLimits, IndexSpec, PipelineSpec, WorkSpec
from embedmill.spec.ray import RayFamilySpec, RaySpec


def pipeline() -> PipelineSpec:
    return PipelineSpec(
        name="similar-items",
        catalog=CatalogSpec(
            source="store:items/*.csv",
            id="sku",
            format="csv",
            where="active = true AND name <> 'ä'",
            display=("title", "größe"),
            images="store:images",
            image_identity="version",
            image_version="updated",
            thumbnails=96,
            fetch=FetchSpec(
                on_error="keep_previous",
                allow=("images.internal", "10.0.0.0/8:8080"),
                connections_per_host=16,
                attempts=2,
                timeout_s=5.0,
                deadline_s=60.0,
                max_bytes=1_000_000,
            ),
            types={"price": "float64"},
        ),
        model="models/minilm",
        store="./mill",
        engine="local",
        kubernetes=cluster(),
        ray=ray_cluster(),
        jenkins=jenkins_agents(),
        priority=20,
        deadline="06:00",
        index=IndexSpec(kind="hnsw", exact_below=1000, links=16, build_effort=64, search_effort=32),
        gates=GateLimits(quarantine=0.5, empty=0.25, churn=0.125),
        work=WorkSpec(
            shard_rows=100,
            workers=2,
            batch_tokens=256,
            batch_images=8,
            calibrate=False,
            attempts=5,
            look_again_s=60.0,
            role="arn:aws:iam::123456789012:role/workers",
            role_lasts_s=900,
            lend_keys=True,
        ),
        compact_above=0.5,
        goldens=32,
    )


def jenkins_agents() -> JenkinsWorkersSpec:
    return JenkinsWorkersSpec(
        url="https://ci.example.org",
        job="team/embedmill-worker",
        user="mill",
        token_file="jenkins.token",  # noqa: S106 - its name
        families={"gpu-07": AgentFamilySpec(label="gpu", workers=2, device="cuda", threads=4)},
        mounts=("/mnt/mill",),
    )


def ray_cluster() -> RaySpec:
    return RaySpec(
        address="gpu-head.internal:6379",
        token_file="ray.token",  # noqa: S106 - its name
        families={
            "t4": RayFamilySpec(image="cu126", workers="auto", cpus=4, gpus=1, accelerator="T4"),
            "tpu": RayFamilySpec(
                workers=2, resources={"TPU": 4.0}, labels={"pool": "night"}, memory_mib=8192
            ),
        },
        images="../images.yaml",
        namespace="shop",
        shared=("/mnt/mill",),
    )


def cluster() -> KubernetesSpec:
    return KubernetesSpec(
        families={
            "cu126": FamilySpec(workers=4, cpus=4, memory_mib=8192, disk_mib=4096, nodes={"pool": "night"}),
            "v5e": FamilySpec(
                image="jax", tpu=TpuSpec(accelerator="tpu-v5-lite-podslice", topology="2x2", chips=4)
            ),
        },
        images="../images.yaml",
        namespace="embeddings",
        context="night",
        queue="night",
        priority_class="lowest",
        service_account="workers",
        secret="store",  # noqa: S106 - its name
        mounts={"/mnt/images": "shop-images"},
        ports=(443, 9000),
        retries=5,
        deadline_s=3600,
        keep_s=60,
        grace_s=30,
        nightly=NightlySpec(
            image=f"registry.internal/embedmill@sha256:{'ab' * 32}",
            schedule="30 1 * * *",
            folder="/spec",
            claim="specs",
            cpus=4,
            memory_mib=2048,
            disk_mib=1024,
        ),
    )
