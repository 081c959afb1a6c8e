"""CUDA's and TensorRT's own libraries without a GPU: do they have the functions that we call?"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorrt_rtx
from cuda.bindings import runtime

from sdrt_engines import EngineError
from sdrt_engines.cuda_device import Device, checked
from sdrt_engines.nvidia_driver import driver_refusal
from support.cuda_streams import Code
from support.host_cuda import HostCuda
from support.host_tensorrt import HostConfig, HostContext, HostEngine, HostRuntime

pytestmark = pytest.mark.build
ARRAY = np.zeros(8, np.float32)
KIND, MODE = runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cudaMalloc", (0,)),
        ("cudaFree", (0,)),
        ("cudaMemcpyAsync", (0, ARRAY.ctypes.data, 0, KIND.cudaMemcpyHostToDevice, 0)),
        ("cudaMemcpyAsync", (ARRAY.ctypes.data, 0, 0, KIND.cudaMemcpyDeviceToHost, 0)),
        ("cudaMemcpyAsync", (0, 0, 0, KIND.cudaMemcpyDeviceToDevice, 0)),
        ("cudaStreamCreateWithFlags", (runtime.cudaStreamNonBlocking,)),
        ("cudaStreamSynchronize", (0,)),
        ("cudaDeviceSynchronize", ()),
        ("cudaGetLastError", ()),
        ("cudaStreamBeginCapture", (0, MODE.cudaStreamCaptureModeThreadLocal)),
        ("cudaStreamEndCapture", (0,)),
        ("cudaGraphInstantiate", (0, 0)),
        ("cudaGraphDestroy", (0,)),
        ("cudaGraphLaunch", (0, 0)),
        ("cudaGraphExecDestroy", (0,)),
    ],
)
def test_cuda_takes_what_we_give_it(name: str, arguments: tuple[object, ...]) -> None:
    """Numbers as addresses, streams and graphs; it returns a code, and a value if there is one."""
    code, *values = getattr(runtime, name)(*arguments)
    assert isinstance(int(code), int)
    assert code.name.startswith("cuda")
    simulated = inspect.signature(getattr(HostCuda, name))
    assert len(simulated.parameters) == 1 + len(arguments)
    assert len(values) == str(simulated.return_annotation).count(",")


def test_the_simulated_gpu_has_nothing_that_cuda_lacks() -> None:
    calls = [name for name in dir(HostCuda) if name.startswith("cuda")]
    assert len(calls) > 10
    assert [name for name in calls if not hasattr(runtime, name)] == []
    assert HostCuda.cudaStreamNonBlocking == runtime.cudaStreamNonBlocking
    for code in Code:
        assert int(getattr(runtime.cudaError_t, code.name)) == code


@pytest.mark.parametrize(
    ("simulated", "real"),
    [
        (HostRuntime, tensorrt_rtx.Runtime),
        (HostEngine, tensorrt_rtx.ICudaEngine),
        (HostConfig, tensorrt_rtx.IRuntimeConfig),
        (HostContext, tensorrt_rtx.IExecutionContext),
    ],
)
def test_the_simulated_tensorrt_has_nothing_that_the_real_one_lacks(
    simulated: type, real: type
) -> None:
    calls = [
        name
        for name, value in vars(simulated).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]
    assert calls
    assert [name for name in calls if not hasattr(real, name)] == []


@pytest.mark.skipif(driver_refusal() is None, reason="there is a GPU")
def test_without_a_driver_it_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match=r"^CUDA failed: cudaErrorInsufficientDriver: update the"):
        Device(runtime)


def test_no_memory_has_another_way_out_than_the_rest() -> None:
    with pytest.raises(EngineError, match="cudaErrorMemoryAllocation: take a smaller size or batc"):
        checked((runtime.cudaError_t.cudaErrorMemoryAllocation, None))
    assert checked((runtime.cudaError_t.cudaSuccess, 5)) == 5
    assert checked((runtime.cudaError_t.cudaSuccess,)) is None
