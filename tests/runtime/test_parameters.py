"""The table of parameters, and the objects made from it."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields

import pytest

import sdrt
from sdrt.command_line.options import parser_of
from sdrt.kinds import Between
from sdrt.parameters import ALIASES, PARAMETER, PARAMETERS, Parameter
from sdrt.recommended import RECOMMENDED
from sdrt.request import Request, RequestOptions

NOT_OPTIONS = {"prompt", "control"}  # of the command line


def test_the_table_holds_every_field_once() -> None:
    assert sorted(PARAMETER) == sorted(field.name for field in fields(Request))
    assert len(PARAMETERS) == len(PARAMETER)


def test_the_keywords_of_a_call_are_the_fields_with_their_types() -> None:
    assert RequestOptions.__annotations__.keys() == PARAMETER.keys() - {"prompt"}
    for field in fields(Request):
        if field.name != "prompt":
            keyword = RequestOptions.__annotations__[field.name].__forward_arg__
            assert keyword == field.type


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_default_is_that_of_the_field(parameter: Parameter) -> None:
    field = next(field for field in fields(Request) if field.name == parameter.name)
    if field.default not in (None, MISSING, ""):
        written = [str(field.default)]
        if isinstance(field.default, int | float):
            written.append(f"{field.default:g}")
        assert parameter.default in written


def test_no_alias_is_a_name_or_stands_for_two() -> None:
    aliases = [alias for parameter in PARAMETERS for alias in parameter.aliases]
    assert len(aliases) == len(set(aliases))
    assert not {*ALIASES} & {*PARAMETER}


def test_what_a_bundle_may_recommend() -> None:
    assert RECOMMENDED.keys() == {"width", "height", "num_inference_steps", "guidance_scale"}
    assert all(isinstance(kind, Between) for kind in RECOMMENDED.values())


@pytest.mark.parametrize("method", [sdrt.Pipeline.__call__, sdrt.Pipeline.stream])
def test_help_shows_every_option_with_its_meaning(method: object) -> None:
    signature = inspect.signature(method)  # type: ignore[arg-type]
    assert list(signature.parameters)[:2] == ["self", "prompt"]
    for name, parameter in PARAMETER.items():
        assert name in signature.parameters
        assert f"    {name}: {parameter.help}" in str(method.__doc__)
        assert f"    {name}: {parameter.help}" in str(Request.__doc__)


@pytest.mark.parametrize("kind", [sdrt.Result, sdrt.Step, sdrt.Control, sdrt.Timings, sdrt.Note])
def test_help_shows_every_field(kind: type) -> None:
    text = str(kind.__doc__).partition("Fields:")[2]
    for name in public_fields(kind):
        assert f"{name}:" in text or f"{name}, " in text or f", {name}:" in text


def public_fields(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if not field.name.startswith("_")]


def test_run_has_an_option_for_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_of({"run": lambda options: None})
    options = vars(parser.parse_args(["run"]))
    assert PARAMETER.keys() - options.keys() == NOT_OPTIONS - {"prompt", "control"}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("steps", "did you mean 'num_inference_steps'?"),
        ("cfg", "did you mean 'guidance_scale'?"),
        ("n", "did you mean 'num_images_per_prompt'?"),
        ("size", "did you mean 'width' or 'height'?"),
        ("generator", "did you mean 'seed'?"),
        ("sampler", "did you mean 'scheduler'?"),
        ("promt", "did you mean 'prompt'?"),
        ("zzz", "known: prompt, prompt_2, negative_prompt, "),
    ],
)
def test_unknown_keywords_name_what_is_meant(word: str, meant: str) -> None:
    with pytest.raises(sdrt.RequestError, match=f"unknown parameter '{word}': ") as caught:
        sdrt.request.request_from("a", {word: 3})
    assert meant in str(caught.value)
