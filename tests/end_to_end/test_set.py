"""`sdrt set`: changes a bundle's defaults, or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from support.bundle_folder import write_onnx_folder
from support.refusals import Capture, refusal


def test_defaults_change_and_the_manifest_is_sealed(folder: Path, capsys: Capture) -> None:
    command = ["set", "bundle", "guidance_scale=5.5", "num-inference-steps=4", "width=64"]
    assert main(command) == 0
    assert capsys.readouterr().out == (
        "bundle: num_inference_steps=4 guidance_scale=5.5 width=64 height=128\n"
    )
    bundle = Bundle.open("bundle")  # which checks the digest
    assert bundle.manifest.defaults == {
        "guidance_scale": 5.5,
        "num_inference_steps": 4,
        "width": 64,
    }
    assert main(["run", "bundle", "a red circle", "-q", "-o", "out.png"]) == 0
    assert main(["set", "bundle", "guidance_scale=", "width="]) == 0
    assert Bundle.open("bundle").manifest.defaults == {"num_inference_steps": 4}
    assert sorted(path.name for path in folder.iterdir()) == ["bundle", "out.png"]


def test_nothing_else_of_the_manifest_changes(folder: Path) -> None:
    before = json.loads(Path("bundle/sdrt.json").read_text(encoding="utf-8"))
    assert main(["set", "bundle", "guidance_scale=5"]) == 0
    after = json.loads(Path("bundle/sdrt.json").read_text(encoding="utf-8"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"defaults", "digest"}


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (["guidance_scale=5", "steps=3"], 1, "no default for 'steps', did you mean 'num_inferen"),
        (["guidance_scale=5", "width=99"], 1, "width: got 99, expected a multiple of 8"),
        (["width=-8"], 1, "width: got -8, expected a whole number from 8 to 8192"),
        (["guidance_scale=nan"], 1, "guidance_scale: got nan, expected a number from 0 to 1000"),
        (["seed=1"], 1, "a bundle has no default for 'seed', known: num_inference_steps, "),
        (["width=64.5"], 2, "width: got '64.5', expected a whole number from 8 to 8192"),
        ([f"width={'9' * 5000}"], 2, f"width: got '{'9' * 40}', expected a whole number"),
        (["guidance_scale=high"], 2, "guidance_scale: got 'high', expected a number from 0 to"),
        (["guidance_scale"], 2, "got 'guidance_scale', expected NAME=VALUE, as in"),
        (["width=64", "width=72"], 2, "width is given twice"),
    ],
)
def test_wrong_settings_change_nothing(
    settings: list[str], code: int, message: str, folder: Path, capsys: Capture
) -> None:
    assert message in refusal(["set", "bundle", *settings], folder, capsys, code)


def test_the_built_in_bundle_stays(folder: Path, capsys: Capture) -> None:
    message = refusal(["set", "demo", "width=64"], folder, capsys)
    assert message == (
        "the built-in bundle stays as it is: copy it, and change the copy: "
        f"`cp -r {Bundle.open('demo').root} NEW_BUNDLE`"  # or its copy in the cache
    )


def test_a_manifest_that_is_a_link_stays(folder: Path, capsys: Capture) -> None:
    """In the Hub's cache all snapshots share one file."""
    shutil.move("bundle/sdrt.json", "blob")
    Path("bundle/sdrt.json").symlink_to(folder / "blob")
    message = refusal(["set", "bundle", "width=64"], folder, capsys)
    assert message.startswith("bundle/sdrt.json: is a link to ")


def test_a_folder_of_optimum_has_no_defaults_to_change(folder: Path, capsys: Capture) -> None:
    write_onnx_folder(folder / "folder")
    message = refusal(["set", "folder", "width=64"], folder, capsys)
    assert message.startswith("'folder' has no sdrt.json, which holds the defaults")
