"""What users write (`pipeline.yaml`, `model.yaml`) and what Embedmill persists, as pydantic models."""

from embedmill.spec.loading import load_model_spec, load_pipeline_spec
from embedmill.spec.model import EncoderInputs, ImageInput, InputSpec, ModelSpec, TextInput
from embedmill.spec.pipeline import CatalogSpec, FetchSpec, GateLimits, IndexSpec, PipelineSpec, WorkSpec
from embedmill.spec.runtimes import (
    RUNTIMES,
    JaxSpec,
    OnnxSpec,
    OpenVinoSpec,
    Precision,
    RuntimeSection,
    RuntimeSpec,
)

__all__ = [
    "RUNTIMES",
    "CatalogSpec",
    "EncoderInputs",
    "FetchSpec",
    "GateLimits",
    "ImageInput",
    "IndexSpec",
    "InputSpec",
    "JaxSpec",
    "ModelSpec",
    "OnnxSpec",
    "OpenVinoSpec",
    "PipelineSpec",
    "Precision",
    "RuntimeSection",
    "RuntimeSpec",
    "TextInput",
    "WorkSpec",
    "load_model_spec",
    "load_pipeline_spec",
]
