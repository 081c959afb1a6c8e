import numpy as np
import pytest

from sdrt_engines import Signature, TensorError, TensorSpec
from support.onnx_writer import spec


def test_a_spec_reads_as_people_write_it() -> None:
    assert str(spec("sample", "float32", "B", 4, "h", "w")) == "float32 (B, 4, h, w)"
    assert str(spec("timestep", "int64", "B")) == "int64 (B,)"
    assert str(spec("timestep", "int64")) == "int64 ()"


@pytest.mark.parametrize(
    ("shape", "got"), [((0,), "0"), ((-1,), "-1"), (("",), "''"), ((None,), "None"), ((True,), "T")]
)
def test_a_dimension_is_a_positive_int_or_a_name(shape: tuple[int, ...], got: str) -> None:
    with pytest.raises(TensorError, match=f"'x'.*positive int or a name, got {got}"):
        TensorSpec("x", np.dtype(np.float32), shape)


def test_a_spec_wants_a_name_and_a_dtype() -> None:
    with pytest.raises(TensorError, match="needs a name"):
        TensorSpec("", np.dtype(np.float32), ())
    with pytest.raises(TensorError, match=r"numpy dtype, got 'float32': write np\.dtype"):
        TensorSpec("x", "float32", ())  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["input", "output"])
def test_names_are_unique_within_a_role(role: str) -> None:
    twice, once = (spec("x", "float32"), spec("x", "int64")), (spec("x", "float32"),)
    with pytest.raises(TensorError, match=f"two {role}s named 'x'"):
        Signature(*((twice, once) if role == "input" else (once, twice)))


def test_a_signature_finds_tensors_by_name() -> None:
    sample, out = spec("sample", "float32"), spec("out_sample", "float32")
    signature = Signature((sample,), (out,))
    assert signature.input("sample") is sample
    assert signature.output("out_sample") is out
    with pytest.raises(TensorError, match="no input 'sampel': did you mean 'sample'"):
        signature.input("sampel")
    with pytest.raises(TensorError, match="no output 'x': known: out_sample"):
        signature.output("x")
