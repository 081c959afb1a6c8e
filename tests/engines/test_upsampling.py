"""Convolutions before the upsampling that precedes them, on each backend that computes on the CPU:
the same numbers, and no upsampled input in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt_engines import Array, Engine, Signature, engine_from_onnx, openvino_engine_from_onnx
from sdrt_engines.onnx_nodes import Attribute, attribute_fields
from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.onnx_upsampling import with_convolutions_first
from sdrt_engines.prepared_onnx import prepare_onnx
from support.onnx_writer import Node as Written
from support.onnx_writer import field, onnx_model, spec
from support.opening import Opener
from support.watching import calls_of

DATA = "model.onnx_data"
NEAREST: dict[str, Attribute] = {
    "coordinate_transformation_mode": "asymmetric",
    "mode": "nearest",
    "nearest_mode": "floor",
}
SAME_SIZE: dict[str, Attribute] = {
    "dilations": (1, 1),
    "group": 1,
    "kernel_shape": (3, 3),
    "pads": (1, 1, 1, 1),
    "strides": (1, 1),
}
# A float, -0.75, which exporters write although nothing reads it.
UNREAD = field(5, field(1, b"cubic_coeff_a") + b"\x15\x00\x00\x40\xbf" + field(20, 1))
TO_FLOAT32 = attribute_fields({"to": 1})
DOUBLED = np.array([1, 1, 2, 2], np.float32)
RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((16, 8, 3, 3)).astype(np.float16)
BIAS = RNG.standard_normal(16).astype(np.float32)


@pytest.fixture(
    params=[
        pytest.param(partial(engine_from_onnx, fused=True), id="onnxruntime"),
        pytest.param(openvino_engine_from_onnx, id="openvino", marks=pytest.mark.needs("openvino")),
    ]
)
def open_onnx(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


def write(
    folder: Path,
    *,
    scales: Array = DOUBLED,
    upsampling: Mapping[str, Attribute] = {},
    convolution: Mapping[str, Attribute] = {},
    kernel: Array = KERNEL,
    bias: bool = True,
    outputs: tuple[str, ...] = ("y",),
) -> Path:
    """A network as the exporter writes it: the kernel in float16, scales in two parts."""
    nodes: list[Written] = [
        ("Cast", ["kernel.fp16"], ["kernel"], TO_FLOAT32),
        ("Concat", ["ones", "scales"], ["all scales"], attribute_fields({"axis": 0})),
        (
            "Resize",
            ["x", "", "all scales"],
            ["up"],
            UNREAD + attribute_fields(NEAREST | dict(upsampling)),
        ),
        (
            "Conv",
            ["up", "kernel", *["bias"] * bias],
            ["y"],
            attribute_fields(SAME_SIZE | dict(convolution)),
        ),
    ]
    signature = Signature(
        (spec("x", "float32", "B", 8, "h", "w"),),
        tuple(spec(name, "float32", "B", f"{name}.C", "H", "W") for name in outputs),
    )
    small = {"ones": scales[:2], "scales": scales[2:], "bias": BIAS}
    return written(folder, signature, nodes, kernel, small)


def write_with_skip(
    folder: Path,
    *,
    halving: Mapping[str, Attribute] = {},
    upsampling: Mapping[str, Attribute] = {},
    bias: bool = True,
    controlled: bool = False,
    outputs: tuple[str, ...] = ("y",),
) -> Path:
    """The end of a UNet's block as the exporter writes it: x is upsampled to the size of a skip
    connection, which another convolution, here of zeros, halved. If it is controlled, a residual,
    here the connection itself, is added to the connection."""
    connection = "controlled skip" if controlled else "skip"
    half = SAME_SIZE | {"strides": (2, 2)} | dict(halving)
    nodes: list[Written] = [
        ("Cast", ["kernel.fp16"], ["kernel"], TO_FLOAT32),
        ("Conv", ["skip", "zeros"], ["halved"], attribute_fields(half)),
        ("Add", ["x", "halved"], ["sum"]),
        ("Shape", ["sum"], ["shape"]),
        ("Slice", ["shape", "0", "2"], ["batch and channels"]),
        *[("Add", ["skip", "skip"], [connection])] * controlled,
        ("Shape", [connection], ["rows"], attribute_fields({"start": 2, "end": 3})),
        ("Shape", [connection], ["columns"], attribute_fields({"start": 3, "end": 4})),
        ("Concat", ["rows", "columns"], ["pixels"], attribute_fields({"axis": 0})),
        ("Cast", ["pixels"], ["cast pixels"], attribute_fields({"to": 7})),
        (
            "Concat",
            ["batch and channels", "cast pixels"],
            ["size"],
            attribute_fields({"axis": 0}),
        ),
        (
            "Resize",
            ["sum", "", "", "size"],
            ["up"],
            UNREAD + attribute_fields(NEAREST | dict(upsampling)),
        ),
        ("Conv", ["up", "kernel", *["bias"] * bias], ["y"], attribute_fields(SAME_SIZE)),
    ]
    signature = Signature(
        (spec("x", "float32", "B", 8, "h", "w"), spec("skip", "float32", "B", 4, "H", "W")),
        tuple(spec(name, "float32", "B", f"{name}.C", "H", "W") for name in outputs),
    )
    small = {
        "0": np.array([0]),
        "2": np.array([2]),
        "bias": BIAS,
        "zeros": np.zeros((8, 4, 3, 3), np.float32),
    }
    return written(folder, signature, nodes, KERNEL, small)


def written(
    folder: Path,
    signature: Signature,
    nodes: Sequence[Written],
    kernel: Array,
    inside: Mapping[str, Array],
) -> Path:
    """The network as a file, with the kernel in a file next to it."""
    path = folder / "model.onnx"
    path.write_bytes(onnx_model(signature, nodes, {"kernel.fp16": kernel}, DATA, inside=inside))
    (folder / DATA).write_bytes(kernel.tobytes())
    return path


def reference(x: Array, bias: Array, size: tuple[int, int] | None = None) -> Array:
    """As the network is defined, in float64; `size` is twice that of x by default."""
    rows, columns = size or (None, None)
    upsampled = x.repeat(2, axis=2).repeat(2, axis=3)[:, :, :rows, :columns]
    padded = np.pad(upsampled.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.asarray(np.einsum("bihwrc,oirc->bohw", windows, KERNEL) + bias[:, None, None])


def run(engine: Engine, x: Array) -> Array:
    return engine.run({"x": x})["y"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 7), (6, 4)])
def test_the_same_numbers(
    open_onnx: Opener, tmp_path: Path, shape: tuple[int, int], bias: bool
) -> None:
    x = RNG.standard_normal((3, 8, *shape)).astype(np.float32)
    with open_onnx(write(tmp_path, bias=bias), num_threads=1) as engine:
        together = run(engine, x)
        alone = np.concatenate([run(engine, row[None]) for row in x])
    np.testing.assert_allclose(together, reference(x, BIAS * bias), atol=1e-4)
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(2, 1), (2, 8), (9, 13), (11, 8), (12, 9), (1, 1)])
def test_the_same_numbers_at_the_size_of_a_skip_connection(
    open_onnx: Opener, tmp_path: Path, size: tuple[int, int], bias: bool
) -> None:
    x = RNG.standard_normal((3, 8, *(-(-each // 2) for each in size))).astype(np.float32)
    skip = np.ones((3, 4, *size), np.float32)
    with open_onnx(write_with_skip(tmp_path, bias=bias), num_threads=1) as engine:
        together = engine.run({"x": x, "skip": skip})["y"]
        alone = [engine.run({"x": x[[i]], "skip": skip[[i]]})["y"] for i in range(3)]
    np.testing.assert_allclose(together, reference(x, BIAS * bias, size), atol=1e-4)
    np.testing.assert_array_equal(together, np.concatenate(alone))


WRITERS = [write, write_with_skip, partial(write_with_skip, controlled=True)]


@pytest.mark.parametrize("writer", WRITERS)
def test_onnx_runtime_gets_no_upsampled_input(
    tmp_path: Path, writer: Callable[[Path], Path]
) -> None:
    edited = convolving_first(writer(tmp_path))
    assert edited is not None
    assert b"Resize" not in edited
    assert edited.count(b"DepthToSpace") == 1


@pytest.mark.needs("openvino")
@pytest.mark.parametrize("writer", WRITERS)
def test_openvino_gets_no_upsampled_input(tmp_path: Path, writer: Callable[[Path], Path]) -> None:
    assert "Interpolate" not in openvino_operators(writer(tmp_path))


@pytest.mark.parametrize(
    ("opener", "function"),
    [
        pytest.param(partial(engine_from_onnx, fused=True), "_convolution", id="onnxruntime"),
        pytest.param(
            openvino_engine_from_onnx,
            "_kernel_of_phases",
            id="openvino",
            marks=pytest.mark.needs("openvino"),
        ),
    ],
)
def test_engines_change_what_they_open(tmp_path: Path, opener: Opener, function: str) -> None:
    path = write(tmp_path)
    with (
        calls_of(function) as calls,
        ThreadPoolExecutor(1) as threads,  # a new one, whose calls are watched
        threads.submit(opener, path, num_threads=1).result(),
    ):
        assert calls


OTHERS: dict[str, dict[str, Any]] = {
    "another factor": {"scales": np.array([1, 1, 2, 3], np.float32)},
    "interpolated": {"upsampling": {"mode": "linear"}},
    "rounded up": {"upsampling": {"nearest_mode": "ceil"}},
    "a larger border": {"convolution": {"pads": (2, 2, 2, 2)}},
    "every other pixel": {"convolution": {"strides": (2, 2)}},
    "another kernel": {
        "convolution": {"kernel_shape": (1, 1), "pads": (0, 0, 0, 0)},
        "kernel": KERNEL[:, :, :1, :1],
    },
    "in groups": {"convolution": {"group": 2}, "kernel": KERNEL[:, :4]},
    "upsampled for others too": {"outputs": ("y", "up")},
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_networks_stay_as_they_are(tmp_path: Path, other: str) -> None:
    assert convolving_first(write(tmp_path, **OTHERS[other])) is None


@pytest.mark.needs("openvino")
@pytest.mark.parametrize("other", OTHERS)
def test_other_networks_stay_as_they_are_in_openvino(tmp_path: Path, other: str) -> None:
    path = write(tmp_path, **OTHERS[other])
    assert "Interpolate" in openvino_operators(path)


WITH_SKIP: dict[str, dict[str, Any]] = {
    "not halved": {"halving": {"strides": (3, 3)}},
    "halved without a border": {"halving": {"pads": (0, 0, 0, 0)}},
    "interpolated": {"upsampling": {"mode": "linear"}},
    "upsampled for others too": {"outputs": ("y", "up")},
}


@pytest.mark.parametrize("other", WITH_SKIP)
def test_other_skip_connections_stay_as_they_are(tmp_path: Path, other: str) -> None:
    assert convolving_first(write_with_skip(tmp_path, **WITH_SKIP[other])) is None


@pytest.mark.needs("openvino")
@pytest.mark.parametrize("other", WITH_SKIP)
def test_other_skip_connections_stay_as_they_are_in_openvino(tmp_path: Path, other: str) -> None:
    path = write_with_skip(tmp_path, **WITH_SKIP[other])
    assert "Interpolate" in openvino_operators(path)


def openvino_operators(path: Path) -> set[str]:
    """The operators of the network after the graph pass."""
    import openvino

    from sdrt_engines.openvino_upsampling import convolve_first

    model = openvino.Core().read_model(path)
    convolve_first(model)
    return {node.get_type_name() for node in model.get_ops()}


def test_a_prepared_graph_gives_the_same_bits(tmp_path: Path) -> None:
    path, prepared = write(tmp_path), tmp_path / "prepared/model.onnx"
    prepared.parent.mkdir()
    prepare_onnx(path, prepared)
    x = RNG.standard_normal((2, 8, 5, 6)).astype(np.float32)
    with (
        engine_from_onnx(path, fused=True) as engine,
        engine_from_onnx(prepared, prepared=True) as other,
    ):
        np.testing.assert_array_equal(run(engine, x), run(other, x))
    assert b"Resize" not in prepared.read_bytes()


def convolving_first(path: Path) -> bytes | None:
    with onnx_message(path) as model:
        return with_convolutions_first(model)
