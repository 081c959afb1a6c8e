from __future__ import annotations

import pytest

from sdrt_engines import EngineError, SdrtError, TensorError
from sdrt_engines.onnxruntime_library import onnxruntime_errors

FAIL = "[ONNXRuntimeError] : 1 : FAIL : Node\n(x) is odd"


def begin() -> str:
    return "x.onnx: does not load"


def test_an_error_is_one_line_with_a_way_out() -> None:
    with pytest.raises(EngineError) as caught, onnxruntime_errors(begin):
        raise RuntimeError(FAIL)
    assert str(caught.value) == (
        "x.onnx: does not load: Node (x) is odd: export it again, or update onnxruntime"
    )


@pytest.mark.parametrize(
    ("message", "way_out"),
    [
        (
            'External data path: "model.onnx_data" escapes model directory: "unet"',
            r"it does not follow the link to the weights: update it, or copy the folder \(cp -rL\)",
        ),
        ("External data path is gone", "the weights next to it are missing or truncated: copy"),
        ("std::bad_alloc", "there is not enough memory: take a smaller size or batch"),
    ],
)
def test_the_way_out_suits_the_error(message: str, way_out: str) -> None:
    with pytest.raises(EngineError, match=way_out), onnxruntime_errors(begin):
        raise RuntimeError(message)


def test_a_caller_has_a_way_out_and_an_error_of_its_own() -> None:
    class OwnError(SdrtError):
        pass

    message = r"^x\.onnx: does not load: Node \(x\) is odd: export it again$"
    translated = onnxruntime_errors(begin, raises=OwnError, way_out="export it again")
    with pytest.raises(OwnError, match=message), translated:
        raise RuntimeError(FAIL)


def test_our_own_errors_pass_through() -> None:
    with pytest.raises(TensorError, match=r"^no input 'x'$"), onnxruntime_errors(begin):
        raise TensorError("no input 'x'")


def test_without_an_error_nothing_is_written() -> None:
    with onnxruntime_errors(lambda: pytest.fail("nobody needs it")):
        pass
