"""The project's parts for each backend: an extra, a builder, a line of `sdrt doctor`. Only a
backend's own code uses its name.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from sdrt.command_line.doctor import diagnosis
from sdrt.targets.plan_record import PRECISIONS
from sdrt.verification.verdict import MIN_PSNR
from sdrt_engines import BACKENDS, Backend, Target
from sdrt_export.building.builder import Builder, BuildOptions
from sdrt_export.building.builders import BUILDERS, builder_of
from sdrt_export.errors import BuildError
from support.command import run_python

HOUSE = Path(__file__).parent.parent
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = [backend.name for backend in BACKENDS]


@pytest.fixture(params=BACKENDS, ids=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


def test_a_backend_comes_with_the_core_or_with_an_extra_of_its_name(backend: Backend) -> None:
    extra = PROJECT["optional-dependencies"].get(backend.name, PROJECT["dependencies"])
    assert {re.split(r"[\[>=]", requirement)[0] for requirement in extra} & {*backend.packages}


def test_the_doctor_has_a_line_for_a_backend_and_each_of_its_precisions(backend: Backend) -> None:
    lines = [state.target for state in diagnosis().targets]
    expected = [backend.name, *(f"{backend.name}:{other}" for other in backend.precisions[1:])]
    assert [line for line in lines if line.partition(":")[0] == backend.name] == expected


def test_verification_knows_every_precision(backend: Backend) -> None:
    assert {*backend.precisions} <= MIN_PSNR.keys()
    assert {*PRECISIONS} == MIN_PSNR.keys()


def test_a_target_in_another_precision_has_a_builder_of_its_own() -> None:
    for builder in BUILDERS:
        assert builder_of(builder.target) is builder


# --- its builder


def test_a_backend_that_runs_built_files_has_a_builder(backend: Backend) -> None:
    target = Target(backend.name)
    if backend.runs == "network":
        with pytest.raises(BuildError, match=f"^target '{target}' runs a bundle's ONNX as it is"):
            builder_of(target)
    else:
        assert builder_of(target).backend is backend


def test_the_error_names_the_backends_that_have_one() -> None:
    with pytest.raises(
        BuildError, match=r"cuda, tensorrt, tensorrt-rtx, cpu:int8 and openvino:int8$"
    ):
        builder_of(Target("openvino"))


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.backend.name)
def test_a_builder_takes_known_options(builder: Builder) -> None:
    assert builder.takes <= {field.name for field in fields(BuildOptions)}
    assert builder.refusal(BuildOptions()) is None
    assert builder.refusal(BuildOptions(components=("unet",))) is None


WHOLE = "runs every shape with one graph: leave out --shapes, --batch, --chunks and --prune"


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("cpu", BuildOptions(precision="fp16"), "computes in float32: leave out --precision"),
        ("cpu", BuildOptions(precision="bf16", prune=True), "computes in float32: leave out"),
        ("cpu", BuildOptions(batch="2"), WHOLE),
        ("cuda", BuildOptions(shapes=("64x64",)), WHOLE),
        ("cuda", BuildOptions(prune=True), WHOLE),
    ],
)
def test_options_that_mean_nothing_to_a_builder_are_refused(
    name: str, options: BuildOptions, reason: str
) -> None:
    assert f"target {name} {reason}" in str(builder_of(Target(name)).refusal(options))


def test_builders_load_no_heavy_library() -> None:
    program = "import sys, sdrt_export.building.builders; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in run_python(program).stdout.split()}
    assert "sdrt_export" in loaded
    assert not loaded & {"torch", "onnx", "onnxruntime", "openvino", "polygraphy", "tensorrt_rtx"}


# --- its name


def own_files() -> set[Path]:
    """The files of backends, and those of builders."""
    owning = {Path(backend.open.__code__.co_filename) for backend in BACKENDS}
    return owning | set((HOUSE / "export/sdrt_export/building").glob("*.py"))


def other_files() -> list[Path]:
    folders = ("engines", "runtime", "export")
    found = (path for folder in folders for path in sorted((HOUSE / folder).rglob("*.py")))
    return [path for path in found if path not in own_files()]


def names_asked_for(code: str) -> Iterator[str]:
    """Each backend's name that is compared with a value, or is a key of a table."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Compare() | ast.MatchValue() | ast.Subscript():
                yield from (text for text in texts_in(node) if text in NAMES)
            case ast.Dict(keys=keys):
                yield from (text for key in keys if key for text in texts_in(key) if text in NAMES)
            case ast.Call(func=ast.Attribute(attr="startswith"), args=[start, *_]):
                yield from (text for text in texts_in(start) if text and begins_a_name(text))


def texts_in(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def begins_a_name(text: str) -> bool:
    return any(name.startswith(text) for name in NAMES)


def test_their_own_files_are_found() -> None:
    assert {path.parent.name for path in own_files()} == {"sdrt_engines", "building"}


@pytest.mark.parametrize("path", other_files(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_other_file_asks_for_a_backend_s_name(path: Path) -> None:
    assert list(names_asked_for(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        'target.backend == "cpu"',
        '"cuda" != target.backend',
        'target.backend in ("cpu", "cuda")',
        'x.startswith("tensorrt")',
        'x.startswith(("a", "tensorrt"))',
        'PACKAGES["openvino"]',
        '{"openvino": 1}',
        "match target.backend:\n    case 'cuda' | 'cpu':\n        pass",
    ],
)
def test_a_question_would_be_found(code: str) -> None:
    assert list(names_asked_for(code))


@pytest.mark.parametrize("code", ['open(path, "cpu")', 'x == "gpu"', 'x.startswith("sm")'])
def test_what_is_not_a_question_is_not(code: str) -> None:
    assert not list(names_asked_for(code))
