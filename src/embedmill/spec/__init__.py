"""What users write (`pipeline.yaml`, `model.yaml`) and what Embedmill persists, as pydantic models."""

from embedmill.spec.inputs import (
    AnyInput,
    BooleanInput,
    BytesInput,
    CategoriesInput,
    CategoryInput,
    ImageInput,
    InputSpec,
    NumberInput,
    OtherInput,
    StringInput,
    TextInput,
)
from embedmill.spec.loading import load_model_spec, load_pipeline_spec
from embedmill.spec.model import EncoderInputs, ModelSpec
from embedmill.spec.pipeline import CatalogSpec, FetchSpec, GateLimits, IndexSpec, PipelineSpec, WorkSpec
from embedmill.spec.runtimes import (
    RUNTIMES,
    OnnxSpec,
    Precision,
    RemoteRuntime,
    RuntimeSection,
    RuntimeSpec,
    TensorFlowSpec,
    TfServingSpec,
    TorchSpec,
    TritonSpec,
)

__all__ = [
    "RUNTIMES",
    "AnyInput",
    "BooleanInput",
    "BytesInput",
    "CatalogSpec",
    "CategoriesInput",
    "CategoryInput",
    "EncoderInputs",
    "FetchSpec",
    "GateLimits",
    "ImageInput",
    "IndexSpec",
    "InputSpec",
    "ModelSpec",
    "NumberInput",
    "OnnxSpec",
    "OtherInput",
    "PipelineSpec",
    "Precision",
    "RemoteRuntime",
    "RuntimeSection",
    "RuntimeSpec",
    "StringInput",
    "TensorFlowSpec",
    "TextInput",
    "TfServingSpec",
    "TorchSpec",
    "TritonSpec",
    "WorkSpec",
    "load_model_spec",
    "load_pipeline_spec",
]
