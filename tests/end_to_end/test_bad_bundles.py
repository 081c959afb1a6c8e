"""Incomplete bundles, networks that give NaN, and a full disk: one line each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import run_sdrt
from support.manifest_edits import edit_manifest, remove_record, replace_recorded
from support.refusals import DRAW, Capture, entries, refusal
from support.toy_bundle import write_toy_bundle


def no_bundle(bundle: Path) -> None:
    shutil.rmtree(bundle)


def a_file_for_a_bundle(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.write_text("model")


def an_empty_folder(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.mkdir()


def a_broken_manifest(bundle: Path) -> None:
    (bundle / "sdrt.json").write_text('{"format_version": 1,')


def a_later_manifest(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(format_version=3))


def an_older_manifest(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(format_version=1))


def an_edited_manifest(bundle: Path) -> None:
    path = bundle / "sdrt.json"
    path.write_text(path.read_text().replace('"guidance_scale": 3.0', '"guidance_scale": 4.0'))


def a_path_upwards(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["files"][0].update(path="../secret.json"))


def an_absolute_path(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["files"][0].update(path="/etc/passwd"))


def a_link_to_another_file(bundle: Path) -> None:
    (bundle / "unet/model.onnx").unlink()
    (bundle / "unet/model.onnx").symlink_to(bundle / "vae_decoder/model.onnx")


def a_tensor_in_an_unlisted_file(bundle: Path) -> None:
    """The network reads its weights from a file whose hash nobody recorded."""
    content = (bundle / "unet/model.onnx").read_bytes()
    (bundle / "unet/model.onnx_date").write_bytes((bundle / "unet/model.onnx_data").read_bytes())
    replace_recorded(bundle, "unet/model.onnx", content.replace(b"onnx_data", b"onnx_date"))


def an_unlisted_scheduler(bundle: Path) -> None:
    remove_record(bundle, "scheduler/scheduler_config.json")


def an_unlisted_vocabulary(bundle: Path) -> None:
    remove_record(bundle, "tokenizer/vocab.json")


def an_added_tokenizer_file(bundle: Path) -> None:
    (bundle / "tokenizer/added_tokens.json").write_text('{"red": 3}')


def a_lost_manifest(bundle: Path) -> None:
    (bundle / "sdrt.json").unlink()


def a_changed_byte(bundle: Path) -> None:
    path = bundle / "unet/model.onnx_data"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_missing_file(bundle: Path) -> None:
    (bundle / "text_encoder/model.onnx").unlink()


def a_truncated_network(bundle: Path) -> None:
    content = (bundle / "unet/model.onnx").read_bytes()
    replace_recorded(bundle, "unet/model.onnx", content[: len(content) // 2])


def truncated_weights(bundle: Path) -> None:
    content = (bundle / "unet/model.onnx_data").read_bytes()
    replace_recorded(bundle, "unet/model.onnx_data", content[: len(content) // 2])


def an_unknown_scheduler(bundle: Path) -> None:
    path = "scheduler/scheduler_config.json"
    replace_recorded(bundle, path, b'{"_class_name": "EulerDiscretScheduler"}')


def an_unknown_option(bundle: Path) -> None:
    path = "scheduler/scheduler_config.json"
    replace_recorded(bundle, path, b'{"_class_name": "DDIMScheduler", "beta_strat": 0.1}')


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_bundle, "no bundle at 'bundle': create one with `sdrt export CHECKPOINT -o bundle`"),
        (a_file_for_a_bundle, "'bundle' is a file, expected a bundle's folder: name the folder"),
        (
            an_empty_folder,
            "'bundle' is not a bundle, it has neither sdrt.json nor model_index.json",
        ),
        (a_broken_manifest, "bundle: sdrt.json: not valid JSON"),
        (a_later_manifest, "bundle: sdrt.json: format_version: got 3, expected 2: use the"),
        (an_older_manifest, "got 1, expected 2: export it again with `sdrt export tests -o"),
        (an_edited_manifest, "bundle: sdrt.json: digest: got '"),
        (a_path_upwards, "files[0]: path: got '../secret.json', expected a path inside the bundle"),
        (an_absolute_path, "files[0]: path: got '/etc/passwd', expected a path inside the bundle"),
        (a_link_to_another_file, "bundle/unet/model.onnx: got "),
        (
            a_tensor_in_an_unlisted_file,
            "bundle/unet/model.onnx: reads weights from 'model.onnx_date', which is not recorded",
        ),
        (an_unlisted_scheduler, "scheduler_config.json: sdrt.json does not list this file: exp"),
        (an_unlisted_vocabulary, "tokenizer/vocab.json: sdrt.json does not list this file: exp"),
        (an_added_tokenizer_file, "tokenizer/added_tokens.json: sdrt.json does not list this f"),
        (a_lost_manifest, "'bundle' is a bundle of sdrt, as it has unet/controlled.onnx, but its"),
        (a_changed_byte, "bundle/unet/model.onnx_data: the file has changed: got sha256 "),
        (a_missing_file, "bundle/text_encoder/model.onnx: this file of the bundle is missing"),
        (a_truncated_network, "bundle/unet/model.onnx: not an ONNX model: "),
        (truncated_weights, "bundle/unet/model.onnx: does not load: "),
        (an_unknown_scheduler, "'EulerDiscretScheduler' is unknown: did you mean 'EulerDiscreteSc"),
        (an_unknown_option, "beta_strat"),
    ],
)
def test_broken_bundles(
    harm: Callable[[Path], None], message: str, folder: Path, capsys: Capture
) -> None:
    harm(folder / "bundle")
    assert message in refusal(DRAW, folder, capsys)


@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae_decoder"])
def test_a_network_that_gives_nan(component: str, folder: Path, capsys: Capture) -> None:
    write_toy_bundle(folder / "broken", nan_from=component)
    message = refusal(["run", "broken", "a red circle", "--steps", "1"], folder, capsys)
    assert message.startswith(f"{component}: ")
    assert "output values are NaN or infinite, so there is no image: use target cpu" in message


def test_a_full_disk(folder: Path) -> None:
    """A process that may write at most 100 bytes to a file gets the error of a full disk."""
    before = entries(folder)
    limit = """
import resource, sys
sys.dont_write_bytecode = True  # Python would cut its own files short, too, and trust them later
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""
    outcome = run_sdrt(*DRAW, "-o", "out.png", folder=folder, before=limit)
    assert outcome.code == 1
    assert outcome.out == ()
    (line,) = outcome.err
    assert line.startswith("sdrt: cannot write ")
    assert "out.png': File too large: choose another path" in line
    assert entries(folder) == before
