"""Fixtures that every tier shares; skips tests that lack a library of their tier."""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.signals import end_by_signals

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the networks here are tiny


# What the lean package does without: pip's extras, and the libraries that tests compare with.
OPTIONAL = {
    *(
        "torch",
        "diffusers",
        "transformers",
        "safetensors",
        "huggingface_hub",
        "optimum",
        "scipy",
        "peft",
    ),
    *("onnx", "onnxscript", "polygraphy", "tensorrt_rtx", "cuda"),
    *("openvino", "cv2", "matplotlib"),
}


class TieredModule(pytest.Module):
    """A file of tests, which is skipped if it imports a library that is missing here."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = error.__cause__
            if isinstance(missing, ModuleNotFoundError):
                skip_without(missing.name or "")
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> TieredModule:
    module: TieredModule = TieredModule.from_parent(parent, path=module_path)
    return module


# The modules that a marker's tests may import anywhere, in addition to those in `needs`.
OF_A_TIER = {
    "build": ("onnx", "polygraphy", "tensorrt_rtx"),
    "export": ("torch", "diffusers", "transformers", "onnx", "onnxscript", "safetensors"),
    "parity": ("torch", "diffusers", "transformers", "onnx", "onnxscript", "safetensors"),
}


def pytest_configure() -> None:
    end_by_signals()


def pytest_collection_finish() -> None:
    gc.freeze()  # torch collects garbage at each export: not through all that is imported


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers():
        for name in mark.args if mark.name == "needs" else OF_A_TIER.get(mark.name, ()):
            skip_without(name)


def skip_without(module: str) -> None:
    """Skips what needs this optional library, if it is one and is not installed."""
    package = module.partition(".")[0]
    if package in OPTIONAL and not find_spec(package):
        pytest.skip(f"{package} is not installed", allow_module_level=True)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A separate cache folder for the tests: never the developer's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDRT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a recipe's checkpoint the first time that it is asked for."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def folder_of(recipe: str) -> Path:
        from checkpoints import tiny_checkpoint  # imports torch

        return tiny_checkpoint(recipe, root / recipe)

    return folder_of


@pytest.fixture(scope="session")
def tiny_controlnets(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], dict[str, Path]]:
    """Writes two ControlNets for a recipe: "edges" takes images of 3 channels, "depth" of 1; none
    for recipes that are not `CONTROLLED`."""
    root = tmp_path_factory.mktemp("controlnets")

    @cache
    def folders_of(recipe: str) -> dict[str, Path]:
        from checkpoints import tiny_controlnet
        from recipes import CONTROLLED

        channels = {"edges": 3, "depth": 1} if recipe in CONTROLLED else {}
        return {
            name: tiny_controlnet(recipe, root / recipe / name, count)
            for name, count in channels.items()
        }

    return folders_of


@pytest.fixture(scope="session")
def tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_checkpoint: Callable[[str], Path],
    tiny_controlnets: Callable[[str], dict[str, Path]],
) -> Callable[[str], Path]:
    """Exports a recipe's checkpoint with its ControlNets the first time that it is asked for.

    The one bundle of a recipe for all tests: an export takes seconds. Copy it before changing it.
    """
    root = tmp_path_factory.mktemp("bundles")

    @cache
    def folder_of(recipe: str) -> Path:
        from sdrt_export.exporting import export_checkpoint

        return export_checkpoint(
            tiny_checkpoint(recipe), root / recipe, controlnets=tiny_controlnets(recipe)
        )

    return folder_of
