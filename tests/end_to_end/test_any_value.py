"""Any value in any place: an image, or an error of sdrt's own in one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt import Control, Pipeline, SdrtError
from sdrt.command_line.main import main
from sdrt.parameters import PARAMETER
from sdrt.request import request_from
from support import values
from support.toy_bundle import write_toy_bundle

MAX_MESSAGE = 1000  # characters
MAX_WORK = 2_000_000  # pixels times steps: others are only resolved

few = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Pipeline:
    return Pipeline.open(bundle, "cpu", num_threads=1)


def image_or_error(use: Callable[[], object]) -> None:
    try:
        use()
    except SdrtError as error:
        assert 0 < len(str(error)) < MAX_MESSAGE


def generate(pipe: Pipeline, prompt: Any, options: dict[str, Any]) -> None:
    request = pipe.resolve(request_from(prompt, options))
    pixels = (request.width or 0) * (request.height or 0)
    if pixels * request.num_images * (request.num_inference_steps or 0) > MAX_WORK:
        return
    stream = pipe.stream(request)
    for _ in stream:
        pass
    assert len(stream.result.images) == request.num_images


@pytest.mark.parametrize("field", sorted(PARAMETER.keys() - {"prompt"}))
def test_every_field_of_a_request(field: str, pipe: Pipeline) -> None:
    @few
    @given(values.values_of(field))
    def check(value: Any) -> None:
        options = {**values.CHEAP, **values.REST.get(field, {}), field: value}
        image_or_error(lambda: generate(pipe, "a", options))

    check()


@settings(few, max_examples=150)
@given(values.requests())
def test_several_fields(pipe: Pipeline, options: dict[str, Any]) -> None:
    prompt = options.pop("prompt")
    image_or_error(lambda: generate(pipe, prompt, options))


@settings(few, max_examples=100)
@given(values.controls())
def test_controls(pipe: Pipeline, fields: dict[str, Any]) -> None:
    image_or_error(
        lambda: generate(pipe, "a", {**values.CHEAP, "control": {"edges": Control(**fields)}})
    )


@pytest.fixture
def runs(tmp_path: Path, bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`sdrt` with some arguments: an image, or one line and the exit code of an error."""
    monkeypatch.chdir(tmp_path)

    def check(arguments: list[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            code = main(arguments)
        printed = capsys.readouterr()
        assert code in (0, 1, 2)
        if code:
            (line,) = printed.err.splitlines()
            assert line.startswith("sdrt: ") and len(line) < MAX_MESSAGE
            assert not printed.out

    return check


@settings(few, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values.json_documents())
def test_the_text_of_an_image(runs: Any, bundle: Path, text: str) -> None:
    info = PngInfo()
    info.add_text("sdrt", text)
    Image.new("RGB", (8, 8)).save("in.png", pnginfo=info)
    small = ["--steps", "1", "-W", "16", "-H", "16", "--num-images", "1", "-o", "out.png", "-q"]
    runs(["run", str(bundle), "--from-image", "in.png", *small])


@settings(few, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values.command_lines())
def test_the_command_line(runs: Any, bundle: Path, arguments: list[str]) -> None:
    small = ["--steps", "1", "-W", "16", "-H", "16", "-o", "out.png", "-q"]
    runs(["run", str(bundle), "a", *small, *arguments])
