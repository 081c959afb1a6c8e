from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import DTYPES, EngineError, Signature, signature_from_onnx
from support.onnx_writer import ELEMENT_TYPES, field, onnx_model, spec, value_info

SIGNATURE = Signature(
    inputs=(spec("sample", "float32", "batch", 4, "8*h", "w"), spec("timestep", "int64")),
    outputs=(spec("out_sample", "float32", "batch", 4, "8*h", "w"),),
)
NODES = [("Mul", ["sample", "scale"], ["out_sample"])]


def test_the_signature_is_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, NODES, {"scale": np.ones(1000, np.float32)}))
    assert signature_from_onnx(path) == SIGNATURE


def test_every_dtype(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    signature = Signature(tuple(spec(name, name, 2) for name in DTYPES), ())
    path.write_bytes(onnx_model(signature, []))
    assert signature_from_onnx(path) == signature
    assert set(ELEMENT_TYPES) == set(DTYPES)


def test_a_dimension_without_a_name_is_called_after_its_tensor(tmp_path: Path) -> None:
    unknown, minus_one = field(1, b""), field(1, field(1, -1))
    tensor = field(1, 1) + field(2, unknown + minus_one + field(1, field(1, 4)))
    value = field(1, b"x") + field(2, field(1, tensor))
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, field(11, value)))
    assert signature_from_onnx(path).inputs == (spec("x", "float32", "x.0", "x.1", 4),)


def test_an_initializer_listed_as_an_input_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    listed = Signature((*SIGNATURE.inputs, spec("scale", "float32", 1)), SIGNATURE.outputs)
    path.write_bytes(onnx_model(listed, NODES, {"scale": np.ones(1, np.float32)}))
    assert signature_from_onnx(path) == SIGNATURE


def graph_with(value: bytes) -> bytes:
    return field(7, field(11, value))


MODEL = onnx_model(SIGNATURE, NODES, {"scale": np.ones(1000, np.float32)})
BFLOAT16 = field(1, b"x") + field(2, field(1, field(1, 16) + field(2, b"")))
NO_SHAPE = field(1, b"x") + field(2, field(1, field(1, 1)))


SAMPLE_TWICE = field(11, value_info(SIGNATURE.inputs[0])) * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b"", "not an ONNX model: cannot mmap an empty file: copy or export", id="empty"
        ),
        pytest.param(MODEL[:-1000], "not an ONNX model: it is truncated: copy or", id="truncated"),
        pytest.param(MODEL[:3], "not an ONNX model: it is truncated", id="three bytes"),
        pytest.param(b"version https://git-lfs", "it is not a protobuf message", id="git-lfs"),
        pytest.param(bytes(100), "not an ONNX model: field 7 is missing", id="zeros"),
        pytest.param(graph_with(BFLOAT16), "tensor 'x' has element type 16, which", id="bfloat16"),
        pytest.param(graph_with(NO_SHAPE), "tensor 'x' has no shape", id="no shape"),
        pytest.param(field(7, SAMPLE_TWICE), "two inputs named 'sample'", id="twice"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        signature_from_onnx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_damage_is_an_engine_error_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    num_refused = 0
    for _ in range(300):
        damaged = bytearray(MODEL)
        damaged[rng.integers(150)] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            signature_from_onnx(path)
        except EngineError as error:
            num_refused += 1
            assert str(path) in str(error)
    assert 10 < num_refused < 300  # a changed letter in a name goes unnoticed


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nothing\.onnx: cannot be read \(No such file"):
        signature_from_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(EngineError, match=r"cannot be read \(Is a directory\)"):
        signature_from_onnx(tmp_path)


@pytest.mark.build
def test_the_onnx_package_agrees(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, NODES, {"scale": np.ones(1, np.float32)}))
    model = onnx.load(path)
    onnx.checker.check_model(model)  # the tests' own writer writes what onnx calls ONNX
    shapes: dict[str, list[str | int | None]] = {"x": ["B", 3], "y": [None, 3]}
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, shape)
        for name, shape in shapes.items()
    )
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])), path)
    assert signature_from_onnx(path) == Signature(
        (spec("x", "float16", "B", 3),), (spec("y", "float16", "y.0", 3),)
    )
