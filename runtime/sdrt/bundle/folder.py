"""A bundle: the folder that `sdrt export` writes, opened for reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any

from sdrt import tensor_names as names
from sdrt.bundle import demo
from sdrt.bundle.file_records import require_in_place, verify_file
from sdrt.bundle.manifest import MANIFEST_NAME, Component, Manifest
from sdrt.bundle.optimum_folder import (
    MODEL_INDEX,
    fields_from_file,
    lost_manifest,
    manifest_from_folder,
    onnx_folders,
)
from sdrt.errors import BundleError, quoted
from sdrt.families.family import Family, Role, Task
from sdrt.files.json_fields import JsonFields, within
from sdrt.text.tokenizer_config import TOKENIZER_FILES
from sdrt_engines.regular_file import read_regular


@dataclass(frozen=True)
class Bundle:
    """A compiled checkpoint in the folder `root`. Files are verified before use. `refiner` finishes
    its images; components and folders of that are found here, too: `refiner.unet`.
    """

    root: Path
    manifest: Manifest
    refiner: Bundle | None = None

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Bundle:
        """The bundle at `path`; the str `"demo"` means the built-in one, or its copy.

        Folders written by `optimum-cli export onnx` open too. BundleError with a remedy for
        anything else: nothing there, a checkpoint that is not exported yet, a broken manifest.
        """
        if not isinstance(path, str | PathLike) or not isinstance(fspath(path), str):
            raise BundleError(
                f'bundle: got {quoted(path)}, expected the path of a bundle, or "{demo.DEMO}"'
            )
        if path == demo.DEMO:
            manifest = _demo_manifest()
            return cls(demo.demo_root(manifest), manifest)
        try:
            root = Path(path)
        except TypeError as error:
            raise BundleError(
                f"bundle: got {type(path).__name__}, expected a folder's path, or '{demo.DEMO}'"
            ) from error
        return cls(root, _manifest_of(root))

    def refined_by(self, refiner: Bundle) -> Bundle:
        """This bundle with one that finishes its images. BundleError if that cannot continue from
        its latents.
        """
        if refiner.family.latents != self.family.latents:
            ours, theirs = (each.family.latents for each in (self, refiner))
            named = [field.name for field in fields(ours)]
            differing = [name for name in named if getattr(ours, name) != getattr(theirs, name)]
            got, expected = (
                ", ".join(f"{name} {getattr(space, name)}" for name in differing)
                for space in (theirs, ours)
            )
            raise BundleError(
                f"{refiner.root}: a refiner of another latent space: got {got}, expected "
                f"{expected} as in {self.root}: use a refiner of the same family"
            )
        if refiner.family.denoiser.extra_channels != "none":
            raise BundleError(
                f"{refiner.root}: this refiner's UNet takes a mask, expected one that takes only "
                "latents: use another refiner"
            )
        return replace(self, refiner=refiner)

    def to_build_in(self) -> Bundle:
        """The bundle for a build to write to: itself, or the built-in one's copy in the cache.

        The copy is made if it is missing. SdrtError if the cache cannot be written.
        """
        if demo.is_demo(self.root):
            return replace(self, root=demo.copy_of_demo(self.manifest))
        return self

    @property
    def components(self) -> Mapping[str, Component]:
        """The components by name, the refiner's included."""
        own = {component.name: component for component in self.manifest.components}
        theirs = {} if self.refiner is None else self.refiner.components
        return own | {names.of_refiner(name): component for name, component in theirs.items()}

    def owner_of(self, name: str) -> tuple[Bundle, str]:
        """The bundle with this component or folder, and its name there."""
        own = names.in_refiner(name)
        return (self, name) if self.refiner is None or own is None else (self.refiner, own)

    def component(self, name: str) -> Component:
        bundle, own = self.owner_of(name)
        for component in bundle.manifest.components:
            if component.name == own:
                return component
        raise BundleError(
            f"{bundle.root}: no component '{own}' (found: {bundle._known}): "
            "name one of these, or export a checkpoint that has it"
        )

    def has(self, name: str) -> bool:
        return any(component.name == name for component in self.manifest.components)

    def component_config(self, name: str) -> dict[str, Any]:
        """The `config.json` of a component, from diffusers or transformers."""
        return self._fields(self._config_path(name)).values

    @cached_property
    def model_index(self) -> dict[str, Any]:
        """The `model_index.json` of diffusers."""
        return self._fields(MODEL_INDEX).values

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """The `scheduler_config.json` of diffusers."""
        return self._fields("scheduler/scheduler_config.json").values

    def tokenizer_folder(self, name: str = "tokenizer") -> Path:
        """A folder with a tokenizer's vocabulary, its files verified."""
        folder = self.root / name
        if not folder.is_dir():
            raise BundleError(f"{folder}: this folder of the bundle is missing: export it again")
        recorded = {
            record.path for record in self.manifest.files if record.path.startswith(f"{name}/")
        }
        present = {f"{name}/{each}" for each in TOKENIZER_FILES if (folder / each).exists()}
        for path in sorted(recorded | present):
            self._verified(path)
        return folder

    @property
    def family(self) -> Family:
        """The facts about the models in the bundle."""
        return self.manifest.family

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The values for None in a request for text to image."""
        return self.defaults_for("text to image")

    def defaults_for(self, task: Task) -> Mapping[str, Any]:
        """The values for None in a request: the bundle's own over those of the family."""
        return {**self.family.defaults_for(task), **self.manifest.defaults}

    @cached_property
    def controlnets(self) -> tuple[str, ...]:
        """The ControlNets, by the names that users give them."""
        return tuple(
            names.controlnet_of(component.name)
            for component in self.manifest.components
            if component.role == "controlnet"
        )

    def find(self, role: Role, *takes: str, variant: str | None = None) -> Component | None:
        """The component of that role and variant with exactly these inputs in `takes`, or None."""
        wanted = role, frozenset(takes), variant
        for component in self.manifest.components:
            if (component.role, component.takes, component.variant) == wanted:
                return component
        return None

    def name_of(self, role: Role, *takes: str, variant: str | None = None) -> str:
        """The name of the component that `find` returns; BundleError if it is missing."""
        component = self.find(role, *takes, variant=variant)
        if component is None:
            kind = f"{variant} {role}" if variant else role
            kind = f"{kind} that takes {' and '.join(takes)}" if takes else kind
            raise BundleError(f"{self.root}: no {kind} (found: {self._known}): export it again")
        return component.name

    @property
    def _known(self) -> str:
        return ", ".join(component.name for component in self.manifest.components)

    def _config_path(self, name: str) -> str:
        return str(PurePosixPath(self.component(name).model).with_name("config.json"))

    def _fields(self, path: str) -> JsonFields:
        """The JSON object in a file of the bundle, which is verified."""
        return fields_from_file(self._verified(path))

    def _verified(self, path: str) -> Path:
        """A file that belongs to no network, after comparing it with its record.

        BundleError if the manifest has no record of it.
        """
        for record in self.manifest.files:
            if record.path == path:
                return verify_file(self.root, record)
        full = self.root / path
        if self.manifest.has_hashes:
            raise BundleError(
                f"{full}: {MANIFEST_NAME} does not list this file: export the checkpoint again"
            )
        if full.exists():
            require_in_place(self.root, full)
        return full


def _demo_manifest() -> Manifest:
    if not demo.DEMO_FOLDER.is_dir():
        raise BundleError(
            "the demo bundle is missing from this copy of sdrt: "
            f"reinstall with pip, or create it with `sdrt export demo -o {demo.DEMO_FOLDER}`"
        )
    return _manifest_of(demo.DEMO_FOLDER)


def _manifest_of(root: Path) -> Manifest:
    try:
        return _existing_manifest(root)
    except OSError as error:  # such as a folder of another user
        raise BundleError(f"'{root}' cannot be read: {error.strerror}") from error


def _existing_manifest(root: Path) -> Manifest:
    if not root.exists():
        raise BundleError(
            f"no bundle at '{root}': {_way_to_make(root)}, or use the built-in '{demo.DEMO}'"
        )
    if not root.is_dir():
        raise BundleError(f"'{root}' is a file, expected a bundle's folder: {_use_of_file(root)}")
    if (root / MANIFEST_NAME).exists():
        return _manifest_from_file(root / MANIFEST_NAME)
    if onnx_folders(root) and (root / MODEL_INDEX).exists():
        if sign := lost_manifest(root):
            raise BundleError(
                f"'{root}' is a bundle of sdrt, as it has {sign}, but its {MANIFEST_NAME} is "
                "missing: copy the whole bundle again, or export the checkpoint again"
            )
        return manifest_from_folder(root)
    if (root / MODEL_INDEX).exists():
        raise BundleError(
            f"'{root}' is a diffusers checkpoint, expected a bundle: "
            f"create one with `sdrt export {root} -o bundle`"
        )
    raise BundleError(
        f"'{root}' is not a bundle, it has neither {MANIFEST_NAME} nor {MODEL_INDEX}: "
        "create one with `sdrt export CHECKPOINT -o bundle`"
    )


def _use_of_file(path: Path) -> str:
    if path.suffix in (".safetensors", ".ckpt"):
        return f"`sdrt inspect {path}` shows the command that uses it"
    return "name the folder"


def _way_to_make(root: Path) -> str:
    looks_like_hub_id = re.fullmatch(r"\w[\w.-]*/[\w.-]+", root.as_posix())
    if looks_like_hub_id and not root.parent.exists():
        return f"create one with `sdrt export {root} -o bundle` from the checkpoint on the Hub"
    return f"create one with `sdrt export CHECKPOINT -o {root}`"


def _manifest_from_file(path: Path) -> Manifest:
    try:
        text = read_regular(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    with within(str(path.parent)):
        return Manifest.from_json(text)
