from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.file_records import verify_file
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from sdrt.errors import BundleError
from sdrt.files.locking import file_lock
from sdrt.targets.engines import open_engine
from sdrt.targets.plan_record import records_of
from sdrt.targets.runnable import runnable
from sdrt_engines import EngineError, Target
from sdrt_engines.nvidia_driver import Gpu
from sdrt_engines.tensorrt_plan import fitting_plans, library_version
from sdrt_export.building.plans import TENSORRT_RTX_PLANS
from sdrt_export.building.workplace import bytes_of_plans, disk_full_as_build_error, require_room
from sdrt_export.errors import BuildError
from support.built_bundle import TARGET, Built, build_for
from support.command import run_sdrt
from support.damage import overwrite

pytestmark = pytest.mark.build

COMPONENTS = [component.name for component in Bundle.open("demo").manifest.components]
SMALLEST = "text_encoder"  # builds in two seconds


def build(root: Path, *arguments: object) -> tuple[int, str, str]:
    """The exit code and the output of `sdrt build` with the options of the built bundle."""
    given = ("build", root, "--target", TARGET, "--batch", "1..2", *arguments)
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main([str(argument) for argument in given])
    return code, out.getvalue().rstrip("\n"), err.getvalue().rstrip("\n")


def plan_of(root: Path, component: str = SMALLEST) -> Path:
    (path,) = root.glob(f"engines/tensorrt-rtx/{component}-*.plan")
    return path


def entries(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_network_has_a_plan_that_is_its_record(built: Built, component: str) -> None:
    (record,) = records_of(built.root, "tensorrt-rtx", component)
    path = verify_file(built.root, record.plan)
    assert path.name == f"{component}-{record.ingredients.key}.plan"
    assert record.ingredients.architectures == ("sm89",)
    assert record.ingredients.precision == "fp16"
    assert record.psnr is not None
    assert record.psnr >= 40
    found = runnable(built.root, built.bundle.component(component), Target.parse(TARGET))
    version = library_version("tensorrt-rtx")
    (plan,) = fitting_plans(found.source, version=version, architecture="sm89")
    assert (plan.path, found.precision) == (path, "fp16")


def test_a_build_needs_no_torch(built: Built) -> None:
    assert "torch" not in built.outcome.loaded  # the building process could not import it either
    assert {"onnx", "onnxruntime"} <= built.outcome.loaded


def test_a_build_says_what_it_does(built: Built) -> None:
    plans = [str(plan_of(built.root, component)) for component in COMPONENTS]
    assert list(built.outcome.out) == plans
    assert f"{SMALLEST}: finding what must stay float32" in built.outcome.err
    assert f"{SMALLEST}: building" in built.outcome.err


def test_a_second_build_does_nothing(built: Built) -> None:
    before = entries(built.root)
    code, out, err = build(built.root)
    assert (code, out) == (0, "everything is already built")
    assert err.splitlines() == [f"{component}: already built" for component in COMPONENTS]
    assert entries(built.root) == before


def test_a_build_for_an_unsupported_gpu_needs_an_architecture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On an H100, say: the plans would be for other machines."""
    cards = (Gpu("NVIDIA H100", "sm90", 80 << 30),)
    monkeypatch.setattr("sdrt_engines.tensorrt_plan.gpus", lambda: cards)
    reason = (
        r"^TensorRT-RTX does not support this GPU \(NVIDIA H100, sm90\), .*: take the target cuda "
        "or tensorrt, or name the GPUs to build for: 'tensorrt-rtx:sm89'$"
    )
    with pytest.raises(BuildError, match=reason):
        TENSORRT_RTX_PLANS.require(Target.parse("tensorrt-rtx"))
    assert TENSORRT_RTX_PLANS.require(Target.parse("tensorrt-rtx:sm89")) == ("sm89",)


def test_quiet_is_quiet(built: Built) -> None:
    assert build(built.root, "-q") == (0, "", "")


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "record"])
def test_a_damaged_plan_is_built_again(copy: Path, damage: str) -> None:
    plan = plan_of(copy)
    content = plan.read_bytes()
    match damage:
        case "bit":
            overwrite(plan, content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
        case "cut":
            overwrite(plan, content[:-1])
        case "gone":
            plan.unlink()
        case "record":
            plan.with_suffix(".json").write_text("{")
    code, out, err = build(copy, "--component", SMALLEST)
    assert (code, out) == (0, str(plan))
    assert f"{SMALLEST}: building again: " in err
    (record,) = records_of(copy, "tensorrt-rtx", SMALLEST)
    verify_file(copy, record.plan)


def test_other_settings_are_another_plan_until_pruned(copy: Path) -> None:
    old = plan_of(copy)
    own = old.with_suffix(".txt")
    own.touch()
    others = {plan_of(copy, name) for name in COMPONENTS if name != SMALLEST}
    code, out, err = build(copy, "--component", SMALLEST, "--batch", "3", "--prune")
    assert code == 0
    assert f"{old.name}: removed" in err
    assert not any(path.exists() for path in (old, old.with_suffix(".json")))
    assert own.exists()
    assert Path(out).exists()
    assert all(path.exists() for path in others)


def test_pruning_removes_nothing_that_a_record_names_elsewhere(copy: Path, tmp_path: Path) -> None:
    record = next(records_of(copy, "tensorrt-rtx", SMALLEST))
    thesis = tmp_path / "home/thesis.plan"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    (copy / "links").symlink_to(thesis.parent)
    others = ("text_encoder/model.onnx", "links/*.plan", "links/thesis.plan", "engines/x.plan")
    for number, path in enumerate(others):
        ingredients = replace(record.ingredients, policy=number + 1000)
        foreign = replace(record, ingredients=ingredients, plan=replace(record.plan, path=path))
        (copy / f"engines/tensorrt-rtx/{number}.json").write_text(foreign.to_json())
    before = entries(copy)
    code, _, err = build(copy, "--component", SMALLEST, "--prune")
    assert (code, err) == (0, f"{SMALLEST}: already built")
    assert entries(copy) == before
    assert thesis.exists()


def test_bfloat16_is_another_plan(copy: Path) -> None:
    code, out, _ = build(copy, "--component", SMALLEST, "--precision", "bf16")
    assert code == 0
    newest, older = records_of(copy, "tensorrt-rtx", SMALLEST)
    assert (newest.ingredients.precision, older.ingredients.precision) == ("bf16", "fp16")
    assert out == str(copy / newest.plan.path)


def test_a_second_build_at_once_waits(built: Built) -> None:
    message = "waiting for another writer of .*demo to end"
    with file_lock(built.root / "engines" / ".lock", lambda: pytest.fail("it is free")):
        process = start(built.root)
        assert process.stderr is not None
        assert re.match(message, process.stderr.readline())
        assert process.poll() is None
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "everything is already built" in out


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_half(copy: Path, kind: signal.Signals) -> None:
    old = set(entries(copy))
    process = start(copy, "--component", SMALLEST, "--shapes", "64x64", "--batch", "2")
    folder = copy / "engines" / "tensorrt-rtx"
    deadline = time.monotonic() + 60
    assert process.stderr is not None
    while "building" not in process.stderr.readline():
        assert time.monotonic() < deadline
    os.killpg(process.pid, kind)  # as a terminal does: the process and its children
    process.communicate(timeout=60)
    assert process.returncode == (130 if kind == signal.SIGINT else -kind)
    assert not [
        path
        for path in folder.iterdir()
        if path.suffix == ".plan" and path.name not in {Path(name).name for name in old}
    ]
    code, _, _ = build(copy, "--component", SMALLEST)  # removes the leftovers of a killed build
    assert code == 0
    assert set(entries(copy)) == old


# A shell makes its background jobs ignore interrupts, these tests included.
INTERRUPTIBLE = """
import signal, sys
from sdrt.command_line.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INTERRUPTIBLE, "build", str(root), "--target", TARGET]
    return subprocess.Popen(
        [*command, "--batch", "1..2", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shapes", "64x60"), "--shapes 64x60: height 60 is not a multiple of 8: take 56 or 64"),
        (("--shapes", "64"), "--shapes: got '64', expected WIDTHxHEIGHT"),
        (("--shapes", "128x128..64x64"), "--shapes 128x128..64x64: range"),
        (("--batch", "4..1"), "--batch 4..1: range 4..1: expected MIN..MAX"),
        (("--batch", "many"), "--batch many: got 'many', expected a size"),
        (("--chunks", "0"), "--chunks: got 0, expected 1 to 64"),
        (("--chunks", "65"), "--chunks: got 65, expected 1 to 64"),
        (("--component", "unet2"), "no component 'unet2' (found: "),
        (("--target", "tensorrt-rtx:sm99"), "tensorrt-rtx does not know 'sm99'"),
        (
            ("--target", "auto"),
            "unknown target 'auto': 'auto' is the first that opens, name one of cpu, ",
        ),
        (("--target", "openvino"), "'openvino' runs a bundle's ONNX as it is and needs no build"),
        (("--target", "tensorrt"), "pip install 'sdrt[tensorrt]'"),
    ],
)
def test_what_is_impossible_is_reported_at_once(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "demo", "--target", TARGET, *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (DEMO_FOLDER / "engines").exists()


@pytest.mark.parametrize("library", ["onnx", "polygraphy", "tensorrt_rtx"])
def test_a_missing_library_is_reported_with_its_command(tmp_path: Path, library: str) -> None:
    missing = f"import sys; sys.modules[{library!r}] = None\n"
    outcome = run_sdrt("build", "demo", "--target", TARGET, folder=tmp_path, before=missing)
    assert outcome.code == 1
    (line,) = outcome.err
    assert library in line
    assert "pip install 'sdrt[tensorrt-rtx]'" in line


def test_a_bundle_that_cannot_be_written_is_reported(tmp_path: Path, built: Built) -> None:
    without_engines = shutil.ignore_patterns("engines")
    root = Path(shutil.copytree(built.root, tmp_path / "demo", ignore=without_engines))
    (root / "engines").write_text("a file, where a folder should be")
    with pytest.raises(BundleError, match=r"cannot write '.*engines': .*: copy the bundle"):
        build_for(TARGET, root)


def test_too_little_room_is_reported_before(tmp_path: Path) -> None:
    assert bytes_of_plans([]) == 0
    assert bytes_of_plans([2e9, 1e8]) == 4340e6
    require_room(tmp_path, "the plans of unet need", 1)
    needed = r"the plans of unet need about 1000000000 MB, \d+ are free: make room"
    with pytest.raises(BuildError, match=f"^'{tmp_path}': {needed}"):
        require_room(tmp_path, "the plans of unet need", 1e15)


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(
            BuildError, match=r"the disk is full: .* the \d+ MB that are free there: make"
        ),
        disk_full_as_build_error(tmp_path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


def test_without_a_gpu_a_plan_does_not_open(built: Built) -> None:
    with pytest.raises(EngineError, match=r"cuda-python|driver"):
        open_engine(built.bundle, SMALLEST, TARGET)
