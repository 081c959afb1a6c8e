"""The modules that `import sdrt` loads: only numpy and our own, as every user waits for them."""

import os
import subprocess
import sys

import pytest

HEAVY = (
    "PIL",
    "cv2",
    "diffusers",
    "huggingface_hub",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "rich",
    "safetensors",
    "sdrt_export",
    "tokenizers",
    "torch",
    "transformers",
)


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    path = os.pathsep.join(filter(None, sys.path))  # the packages that this interpreter sees
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in answer.stdout.split()}


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return modules_after("import sdrt")


def test_import_sdrt_loads_sdrt_and_numpy(loaded: set[str]) -> None:
    assert {"sdrt", "sdrt_engines", "numpy"} <= loaded


@pytest.mark.parametrize("module", HEAVY)
def test_import_sdrt_does_not_load(loaded: set[str], module: str) -> None:
    assert module not in loaded
