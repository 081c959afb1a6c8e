"""A bundle: the folder that `sdrt export` writes, opened for reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from sdrt import tensor_names as names
from sdrt.bundle.file_records import verify_file
from sdrt.bundle.manifest import MANIFEST_NAME, Component, Manifest
from sdrt.bundle.optimum_folder import (
    MODEL_INDEX,
    fields_from_file,
    manifest_from_folder,
    onnx_folders,
)
from sdrt.errors import BundleError
from sdrt.files.json_fields import JsonFields, within

T = TypeVar("T")

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo_bundle"

_SD1_SCALING_FACTOR = 0.18215  # what diffusers assumes for a VAE that does not say


@dataclass(frozen=True)
class Bundle:
    """A compiled checkpoint in the folder `root`. Every file is held to its record before use."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Bundle:
        """The bundle at `path`; the str `"demo"` means the built-in one.

        A folder that `optimum-cli export onnx` wrote opens too. BundleError, with the way out, for
        everything else: nothing there, a checkpoint that is not exported yet, a broken manifest.
        """
        if path == DEMO:
            return cls(DEMO_FOLDER, _demo_manifest())
        root = Path(path)
        return cls(root, _manifest_of(root))

    def component(self, name: str) -> Component:
        for component in self.manifest.components:
            if component.name == name:
                return component
        known = ", ".join(component.name for component in self.manifest.components)
        raise BundleError(f"{self.root}: no component '{name}', it has {known}: export it with it")

    def has(self, name: str) -> bool:
        return any(component.name == name for component in self.manifest.components)

    def component_config(self, name: str) -> dict[str, Any]:
        """diffusers' or transformers' `config.json` of a component."""
        return self._fields(self._config_path(name)).values

    @cached_property
    def model_index(self) -> dict[str, Any]:
        """diffusers' `model_index.json`."""
        return self._fields(MODEL_INDEX).values

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """diffusers' `scheduler_config.json`."""
        return self._fields("scheduler/scheduler_config.json").values

    @cached_property
    def tokenizer_folder(self) -> Path:
        """The folder with CLIP's vocabulary, its files verified."""
        folder = self.root / "tokenizer"
        if not folder.is_dir():
            raise BundleError(f"{folder}: this folder of the bundle is missing: export it again")
        for record in self.manifest.files:
            if record.path.startswith("tokenizer/"):
                verify_file(self.root, record)
        return folder

    @cached_property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, in each direction."""
        levels = self._from_config("vae_decoder", lambda vae: vae.array("block_out_channels"))
        return 1 << max(len(levels) - 1, 0)  # each level but the last halves the picture

    @cached_property
    def scaling_factor(self) -> float:
        """Latents are divided by it before they are decoded."""
        return self._from_config(
            "vae_decoder", lambda vae: vae.number("scaling_factor", default=_SD1_SCALING_FACTOR)
        )

    @cached_property
    def shift_factor(self) -> float:
        """Added to the latents after that; 0 for all VAEs before Stable Diffusion 3."""
        return self._from_config("vae_decoder", lambda vae: vae.number("shift_factor", default=0))

    @cached_property
    def latent_channels(self) -> int:
        return self._from_config("vae_decoder", lambda vae: vae.integer("latent_channels", 4))

    @cached_property
    def inpaints(self) -> bool:
        """Whether the UNet sees a mask and a masked picture beside the latents."""
        channels = self._from_config("unet", lambda unet: unet.integer("in_channels", 4))
        if channels == self.latent_channels:
            return False
        if channels == 2 * self.latent_channels + 1:
            return True
        raise BundleError(
            f"{self.root}: its UNet takes {channels} channels, expected {self.latent_channels}, or "
            f"{2 * self.latent_channels + 1} of one for inpainting: sdrt does not run this kind"
        )

    @cached_property
    def controlnets(self) -> tuple[str, ...]:
        """The ControlNets, by the names that users give them."""
        prefix = names.controlnet("")
        all_names = (component.name for component in self.manifest.components)
        return tuple(name.removeprefix(prefix) for name in all_names if name.startswith(prefix))

    @cached_property
    def num_tokens(self) -> int:
        """The length of a prompt."""
        length = self.component(names.TEXT_ENCODER).signature.input(names.INPUT_IDS).shape[-1]
        if isinstance(length, int):
            return length
        return self._from_config(
            names.TEXT_ENCODER, lambda config: config.integer("max_position_embeddings", 77)
        )

    @cached_property
    def sample_size(self) -> int:
        """Height and width, in latents, that the UNet was trained for."""
        return self._from_config("unet", _sample_size)

    def _from_config(self, name: str, convert: Callable[[JsonFields], T]) -> T:
        path = self._config_path(name)
        fields = self._fields(path)
        with within(str(self.root / path)):
            return convert(fields)

    def _config_path(self, name: str) -> str:
        return str(PurePosixPath(self.component(name).model).with_name("config.json"))

    def _fields(self, path: str) -> JsonFields:
        """The JSON object in a file of the bundle, verified where the manifest lists it."""
        for record in self.manifest.files:
            if record.path == path:
                verify_file(self.root, record)
        return fields_from_file(self.root / path)


def _sample_size(unet: JsonFields) -> int:
    match unet.values.get("sample_size"):
        case [height, width] if height == width:  # diffusers takes a pair, too
            return JsonFields({"sample_size": height}).integer("sample_size")
    return unet.integer("sample_size")


def _demo_manifest() -> Manifest:
    if not DEMO_FOLDER.is_dir():
        raise BundleError(
            "the demo bundle is not in this copy of sdrt: "
            f"`sdrt export demo -o {DEMO_FOLDER}` makes it, pip install brings it"
        )
    return _manifest_of(DEMO_FOLDER)


def _manifest_of(root: Path) -> Manifest:
    if not root.exists():
        raise BundleError(
            f"no bundle at '{root}': `sdrt export CHECKPOINT -o {root}` makes one, "
            f"'{DEMO}' is built in"
        )
    if not root.is_dir():
        raise BundleError(f"'{root}' is a file, expected a bundle's folder: name the folder")
    if (root / MANIFEST_NAME).exists():
        return _manifest_from_file(root / MANIFEST_NAME)
    if onnx_folders(root) and (root / MODEL_INDEX).exists():
        return manifest_from_folder(root)
    if (root / MODEL_INDEX).exists():
        raise BundleError(
            f"'{root}' is a diffusers checkpoint, expected a bundle: "
            f"make one with `sdrt export {root} -o bundle`"
        )
    raise BundleError(
        f"'{root}' holds neither {MANIFEST_NAME} nor {MODEL_INDEX}, so it is no bundle: "
        "make one with `sdrt export CHECKPOINT -o bundle`"
    )


def _manifest_from_file(path: Path) -> Manifest:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    with within(str(path.parent)):
        return Manifest.from_json(text)
