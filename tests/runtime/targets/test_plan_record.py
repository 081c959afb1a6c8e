from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import sealed
from sdrt.errors import BundleError
from sdrt.files.cache import cache_folder
from sdrt.targets.plan_record import (
    Ingredients,
    onnx_digests,
    read_record,
    records_of,
)
from sdrt.targets.plans import plan_files
from sdrt.targets.runnable import runnable
from sdrt_engines import EngineError, Target
from sdrt_engines.shape_profiles import Range
from sdrt_engines.tensorrt_plan import fitting_plans
from support.built_records import PROFILE, write_plan
from support.bundle_folder import write_bundle, write_onnx_folder

INGREDIENTS = Ingredients(
    component="unet",
    onnx={"unet/model.onnx": "0" * 64, "unet/model.onnx_data": "1" * 64},
    precision="fp16",
    promoted=("a",),
    policy=1,
    profiles=(PROFILE,),
    flags={"strongly_typed": True},
    library="tensorrt_rtx",
    library_version="1.7.1.116",
    architectures=("sm89",),
)
OTHER: dict[str, Any] = {
    "component": "vae_decoder",
    "onnx": {**INGREDIENTS.onnx} | {"unet/model.onnx_data": "2" * 64},
    "precision": "bf16",
    "promoted": ("a", "b"),
    "policy": 2,
    "profiles": (
        replace(PROFILE, inputs={"sample": (Range.of(1), *PROFILE.inputs["sample"][1:])}),
    ),
    "flags": {"strongly_typed": True, "tf32": True},
    "library": "tensorrt",
    "library_version": "1.7.1.117",
    "architectures": ("sm86", "sm89"),
}


def test_the_same_ingredients_have_the_same_key() -> None:
    again = replace(INGREDIENTS, onnx=dict(reversed([*INGREDIENTS.onnx.items()])))
    assert again.key == INGREDIENTS.key
    assert INGREDIENTS.key == "32dc3760ffcb7232"  # on every machine, in every version


@pytest.mark.parametrize("ingredient", vars(INGREDIENTS))
def test_another_ingredient_is_another_key(ingredient: str) -> None:
    assert replace(INGREDIENTS, **{ingredient: OTHER[ingredient]}).key != INGREDIENTS.key


def test_the_order_of_profiles_counts() -> None:
    both = (*INGREDIENTS.profiles, *OTHER["profiles"])
    there, back = (replace(INGREDIENTS, profiles=order) for order in (both, both[::-1]))
    assert there.key != back.key


def test_a_record_outlives_json(tmp_path: Path) -> None:
    record = read_record(write_plan(tmp_path, INGREDIENTS))
    assert record.ingredients == INGREDIENTS
    assert record.psnr == 60.5
    assert record.plan.path == f"engines/tensorrt-rtx/unet-{INGREDIENTS.key}.plan"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("record_version", 1, "record_version: got 1, expected 2: run `sdrt build` again"),
        ("key", "0" * 16, "key: got '0000000000000000', the ingredients give "),
        ("psnr", "much", 'psnr: got "much", expected a number'),
        ("plan", {"path": "../x", "sha256": "0" * 64, "size": 1}, "plan: path: got '../x'"),
        ("ingredients", {}, "ingredients.profiles: missing"),
        (
            "ingredients",
            INGREDIENTS.to_json() | {"architectures": [89]},
            "ingredients.architectures[0]: got 89, expected a text",
        ),
        ("ingredients", INGREDIENTS.to_json() | {"precision": "fp8"}, "precision: got 'fp8'"),
    ],
)
def test_faults_of_a_record_are_reported(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = write_plan(tmp_path, INGREDIENTS)
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {field: value})))
    with pytest.raises(BundleError) as raised:
        read_record(path)
    assert message in str(raised.value)
    assert list(records_of(tmp_path, "tensorrt-rtx")) == []  # it is ignored


@pytest.mark.parametrize("profiles", [[[]], ["x"], [{"sample": 1}], [{"sample": ["4..1"]}]])
def test_broken_profiles_are_reported(tmp_path: Path, profiles: object) -> None:
    path = write_plan(tmp_path, INGREDIENTS)
    fields = json.loads(path.read_text())
    fields["ingredients"]["profiles"] = profiles
    path.write_text(json.dumps(sealed(fields)))
    with pytest.raises(BundleError, match=r"unet-.*\.json: ingredients"):
        read_record(path)


def test_a_record_that_was_edited_does_not_count(tmp_path: Path) -> None:
    """Its distance to float32 decides whether `auto` takes the plan."""
    path = write_plan(tmp_path, INGREDIENTS)
    path.write_text(path.read_text().replace('"psnr": 60.5', '"psnr": 90.5'))
    with pytest.raises(BundleError, match=r"digest: got .*run `sdrt build` again"):
        read_record(path)
    assert list(records_of(tmp_path, "tensorrt-rtx")) == []


def test_a_record_that_is_missing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        read_record(tmp_path / "x.json")


def bundle(tmp_path: Path) -> tuple[Bundle, Ingredients]:
    """A bundle, and the ingredients of a plan of its UNet."""
    opened = Bundle.open(write_bundle(tmp_path))
    digests = onnx_digests(tmp_path, opened.component("unet"))
    return opened, replace(INGREDIENTS, onnx=digests)


def fitting(opened: Bundle, version: str = "1.7.1.116", architecture: str = "sm89") -> list[str]:
    """The names of the plans that fit, in their order."""
    found = runnable(opened.root, opened.component("unet"), Target("tensorrt-rtx"))
    plans = fitting_plans(found.source, version=version, architecture=architecture)
    return [plan.path.name for plan in plans]


def name_of(ingredients: Ingredients) -> str:
    return f"unet-{ingredients.key}.plan"


@pytest.mark.parametrize("path", ["unet/model.onnx", "engines/*.plan", "engines/cuda/unet.plan"])
def test_a_record_of_a_file_elsewhere_does_not_count(tmp_path: Path, path: str) -> None:
    opened, ingredients = bundle(tmp_path)
    record = read_record(write_plan(tmp_path, ingredients))
    foreign = replace(record, plan=replace(record.plan, path=path))
    (tmp_path / f"engines/tensorrt-rtx/{name_of(ingredients)}").with_suffix(".json").write_text(
        foreign.to_json()
    )
    assert not list(records_of(tmp_path, "tensorrt-rtx"))
    with pytest.raises(EngineError, match="there are no plans"):
        fitting(opened)


def test_kernels_are_kept_in_the_users_cache_by_the_hash_of_their_plan(tmp_path: Path) -> None:
    opened, ingredients = bundle(tmp_path)
    write_plan(tmp_path, ingredients)
    (plan,) = plan_files(tmp_path, opened.component("unet"), "tensorrt-rtx")
    assert plan.kernels == cache_folder() / "kernels" / sha256(b"plan").hexdigest()[:32]


def test_the_newest_plan_comes_first(tmp_path: Path) -> None:
    opened, ingredients = bundle(tmp_path)
    newer = replace(ingredients, precision="bf16")
    write_plan(tmp_path, newer, "2026-01-02")
    write_plan(tmp_path, ingredients, "2026-01-01")
    assert fitting(opened) == [name_of(newer), name_of(ingredients)]


def test_without_plans_the_way_to_one_is_reported(tmp_path: Path) -> None:
    opened, _ = bundle(tmp_path)
    with pytest.raises(EngineError) as raised:
        fitting(opened)
    assert str(raised.value) == (
        "unet: no plan of this bundle runs here: there are no plans: "
        f"`sdrt build {tmp_path} --target tensorrt-rtx` builds one"
    )


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        ({"version": "2.0"}, r"it was built with tensorrt_rtx 1\.7\.1\.116, 2\.0 is installed"),
        ({"architecture": "sm120"}, "it was built for sm89, this GPU is sm120"),
    ],
)
def test_plans_for_another_machine_are_reported(
    tmp_path: Path, here: dict[str, str], reason: str
) -> None:
    opened, ingredients = bundle(tmp_path)
    write_plan(tmp_path, ingredients)
    with pytest.raises(EngineError, match=rf"unet-{ingredients.key}\.plan: {reason}: `sdrt build"):
        fitting(opened, **here)


def test_a_plan_of_another_network_is_reported(tmp_path: Path) -> None:
    opened, _ = bundle(tmp_path)
    write_plan(tmp_path, INGREDIENTS)
    with pytest.raises(EngineError, match="it was built from another ONNX file"):
        fitting(opened)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"pla", "got 3 bytes, expected 4"),
        (b"plaN", "the file has changed: got sha256"),
        (None, "this file of the bundle is missing"),
    ],
)
def test_a_damaged_plan_is_reported_or_an_older_one_taken(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    opened, ingredients = bundle(tmp_path)
    path = write_plan(tmp_path, ingredients, "2026-01-02").with_suffix(".plan")
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=rf"{path.name}: .*{reason}.*`sdrt build"):
        fitting(opened)
    older = replace(ingredients, precision="bf16")
    write_plan(tmp_path, older, "2026-01-01")
    assert fitting(opened) == [name_of(older)]


def test_unrecorded_files_are_hashed(tmp_path: Path) -> None:
    opened = Bundle.open(write_onnx_folder(tmp_path))
    component = opened.component("unet")
    (before,) = onnx_digests(tmp_path, component).values()
    (tmp_path / component.model).write_bytes(b"other")
    (after,) = onnx_digests(tmp_path, component).values()
    assert before != after
