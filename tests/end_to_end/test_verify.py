"""`sdrt verify` as a user types it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt.bundle.file_records import record_file
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import write_manifest
from sdrt.command_line.main import main
from sdrt.text.clip_tokenizer import ClipTokenizer
from support.backends import skip_unless_it_opens
from support.toy_bundle import write_toy_bundle


@pytest.mark.parametrize(
    ("target", "more"),
    [("openvino", []), ("openvino:bf16", []), ("openvino", ["--num-threads", "1"])],
)
def test_the_demo_model_passes_on(
    target: str,
    more: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    skip_unless_it_opens(target)
    assert main(["verify", "demo", "--target", target, *more]) == 0
    title, headings, *rows = capsys.readouterr().out.splitlines()
    assert title.split() == [target, "compared", "with", "cpu"]
    assert headings.split()[:3] == ["component", "greatest", "error"]
    assert {"text_encoder", "unet", "vae_decoder", "vae_encoder"} <= {r.split()[0] for r in rows}
    assert all(row.split()[-1] == "passed" for row in rows)


def test_the_cpu_is_not_compared_with_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("openvino", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, library, None)  # as if they were not installed
    assert main(["verify", str(write_toy_bundle(tmp_path / "toy"))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sdrt: nothing to compare: auto takes the CPU here, ")
    assert "name a --target (sdrt doctor lists them)" in err


def test_a_broken_network_fails_and_the_others_are_still_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_toy_bundle(tmp_path / "toy", nan_from="unet")
    assert main(["verify", str(root), "--target", "cpu", "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["target"] == "cpu"
    found = {each["component"]: each for each in report["components"]}
    assert {name: each["passed"] for name, each in found.items()} == {
        "text_encoder": True,
        "unet": False,
        "unet_controlled": False,
        "controlnet_edges": True,
        "vae_encoder": True,
        "vae_decoder": True,
    }
    assert found["unet"]["num_non_finite"] == 2 * 4 * 16 * 16
    assert (found["unet"]["max_abs"], found["unet"]["psnr"]) == (None, None)
    assert err == (
        "sdrt: target cpu differs too much from the CPU in unet, unet_controlled: "
        "use another target for this bundle\n"
    )


def test_the_table_says_why_a_network_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    root = write_toy_bundle(tmp_path / "toy")
    (root / "unet/model.onnx").unlink()
    assert main(["verify", str(root), "--target", "cpu"]) == 1
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("unet "))
    assert row.rstrip().endswith("this file of the bundle is missing: export it again")


@pytest.mark.parametrize("command", ["verify", "build"])
def test_tokenizer_json_alone_is_enough(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers 5 writes no vocab.json, and `seeded_inputs` needs the size of the vocabulary."""
    root = write_toy_bundle(tmp_path / "toy")
    backend = ClipTokenizer.open(root / "tokenizer").backend
    backend.save(str(root / "tokenizer/tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        (root / "tokenizer" / name).unlink()
    manifest = Bundle.open(root).manifest
    kept = (file for file in manifest.files if (root / file.path).exists())
    added = record_file(root, "tokenizer/tokenizer.json")
    write_manifest(root, replace(manifest, files=(*kept, added)))
    assert main([command, str(root), "--target", "cpu"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "sdrt: no bundle at 'nowhere'"),
        (
            ["demo", "--num-threads", "-1"],
            "sdrt: num_threads: got -1, expected a whole number from",
        ),
        (
            ["demo", "--num-threads", "1", "--target", "tensorrt"],
            "sdrt: num_threads: got 1, but target 'tensorrt' does not compute on threads of the",
        ),
        (["demo", "--target", "cdua"], "sdrt: unknown target 'cdua': did you mean 'cuda'?"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *arguments]) == 1
    assert capsys.readouterr().err.startswith(message)
