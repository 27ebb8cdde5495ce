"""What a planner measured of its machine, with every field filled."""

from __future__ import annotations

from embedmill.spec.calibration import (
    Calibration,
    CalibrationKey,
    KeptCalibration,
    Measured,
    Setting,
)


def calibration() -> Calibration:
    default, chosen = (Setting(batch_tokens=tokens, sessions=2, threads=1) for tokens in (512, 256))
    return Calibration(
        chosen=chosen,
        measured=(
            Measured(setting=default, items_per_s=170.5),
            Measured(setting=chosen, items_per_s=190.0),
        ),
        source="measured 2026-01-31",
    )


def kept_calibration() -> KeptCalibration:
    key = CalibrationKey(
        package_digest="45" * 32,
        runtime="onnxruntime",
        runtime_version="1.32.0",
        device="cpu",
        processor="AMD EPYC 7B13",
        cores=2,
        row_tokens=32,
        batch_tokens=None,
        workers=2,
        one_thread=False,
    )
    return KeptCalibration(key=key, calibration=calibration(), created="2026-01-31")
