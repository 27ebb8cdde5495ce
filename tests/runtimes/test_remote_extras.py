"""What each remote runtime says where its client library is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("absent", "section", "url", "said"),
    [
        (
            "aiohttp",
            "TritonSpec(kind='triton', model='m', version=1)",
            "http://127.0.0.1:9",
            "embedmill[triton]",
        ),
        (
            "aiohttp",
            "TritonSpec(kind='triton', model='m', version=1)",
            "grpc://127.0.0.1:9",
            "embedmill[triton]",
        ),
        (
            "tritonclient",
            "TritonSpec(kind='triton', model='m', version=1)",
            "grpc://127.0.0.1:9",
            "embedmill[triton]",
        ),
        (
            "aiohttp",
            "TfServingSpec(kind='tf_serving', model='m', version=1)",
            "http://127.0.0.1:9",
            "embedmill[http]",
        ),
    ],
)
def test_a_missing_client_is_one_line_that_names_the_extra(
    tmp_path: Path, absent: str, section: str, url: str, said: str
) -> None:
    script = f"""
import sys
sys.modules[{absent!r}] = None
from pathlib import Path
from embedmill.errors import MissingExtra
from embedmill.runtimes import load_runtime
from embedmill.spec import TfServingSpec, TritonSpec
spec = {section}.model_copy(update={{"url": {url!r}}})
try:
    load_runtime(spec, Path("."))
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert said in done.stdout
