"""Checkpoints and ControlNets, recognised by their keys in CompVis' (ldm) and diffusers' names.

Families differ in their layers, so models of any width are recognised.
Source: diffusers' `loaders/single_file_utils.py`; for the marks of a prediction ComfyUI's
`supported_models.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sdrt.adapters.found import (
    CheckpointFile,
    ControlNetFile,
    EncoderKeys,
    FamilyName,
    ForeignFile,
    Layout,
    Prediction,
)
from sdrt.adapters.safetensors import SafetensorsFile, TensorInfo
from sdrt.adapters.vae_layouts import vae_file


@dataclass(frozen=True)
class _Names:
    """The same weights of a UNet, or of a ControlNet, in one layout."""

    layout: Layout
    prefixes: tuple[str, ...]
    conv_in: str
    resnet: str
    added: str  # reads SDXL's pooled vector and sizes
    hint: str  # the first layer of a ControlNet that sees its image


_NAMES = (
    _Names(
        "ldm",
        prefixes=("model.diffusion_model.", "diffusion_model.", "control_model.", ""),
        conv_in="input_blocks.0.0.weight",
        resnet="input_blocks.1.0.in_layers.2.weight",
        added="label_emb.0.0.weight",
        hint="input_hint_block.0.weight",
    ),
    _Names(
        "diffusers",
        prefixes=("", "unet.", "controlnet."),
        conv_in="conv_in.weight",
        resnet="down_blocks.0.resnets.0.conv1.weight",
        added="add_embedding.linear_1.weight",
        hint="controlnet_cond_embedding.conv_in.weight",
    ),
)
_PROMPT_LAYER = "attn2.to_k.weight"
_LINEAR_IF_2D = "proj_in.weight"  # a convolution in SD1
_FAMILIES: Mapping[int, FamilyName] = {  # by the width of what SDXL's added embedding reads
    1280 + 6 * 256: "stable-diffusion-xl",  # a pooled vector, and sizes as 256 features each
    1280 + 5 * 256: "stable-diffusion-xl-refiner",
}
_OTHER_CHANNELS = {
    5: "a model of Stable Diffusion 2 that reads a depth map",
    7: "an upscaler of Stable Diffusion",
    8: "a model of InstructPix2Pix, which edits images by an instruction",
}
_OTHER_ADDED: Mapping[int | None, str] = {
    1536: "a model of Stable unCLIP",
    2048: "a model of Stable unCLIP",
}
_ENCODERS = (  # prefixes, in the order of SDXL's two encoders
    *("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.", "text_encoder."),
    *("cond_stage_model.model.", "conditioner.embedders.0.model."),
    *("conditioner.embedders.1.model.", "text_encoder_2."),
)
_TOKENS: Mapping[str, Literal["transformers", "open_clip"]] = {
    "text_model.embeddings.token_embedding.weight": "transformers",
    "embeddings.token_embedding.weight": "transformers",  # in old merges
    "token_embedding.weight": "open_clip",
}
_PREDICTION_FIELDS = ("modelspec.prediction_type", "modelspec.predict_key")
_PREDICTIONS: Mapping[str, Prediction] = {
    "epsilon": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
}


@dataclass(frozen=True)
class _Network:
    """A UNet or ControlNet among the tensors of a file."""

    names: _Names
    prefix: str
    tensors: Mapping[str, TensorInfo]  # by their names without the prefix

    @property
    def in_channels(self) -> int:
        return self.tensors[self.names.conv_in].shape[1]

    @property
    def context_width(self) -> int | None:
        """The width of the text; None if no layer reads it."""
        shapes = self._shapes(_PROMPT_LAYER)
        return next((shape[1] for shape in shapes if len(shape) == 2), None)

    @property
    def added_width(self) -> int | None:
        """The width of SDXL's pooled vector and sizes; None if no layer reads them."""
        shapes = self._shapes(self.names.added)
        return next((shape[1] for shape in shapes if len(shape) == 2), None)

    def family(self, encoders: Sequence[EncoderKeys] = ()) -> FamilyName:
        """Its family, by its layers; of unpublished sizes, a refiner has one text encoder only."""
        if self.added_width is None:
            linear = any(len(shape) == 2 for shape in self._shapes(_LINEAR_IF_2D))
            return "stable-diffusion-2" if linear else "stable-diffusion-1"
        if self.added_width in _FAMILIES:
            return _FAMILIES[self.added_width]
        return "stable-diffusion-xl-refiner" if len(encoders) == 1 else "stable-diffusion-xl"

    def _shapes(self, ending: str) -> Iterator[tuple[int, ...]]:
        return (info.shape for name, info in self.tensors.items() if name.endswith(ending))


def checkpoint_file(file: SafetensorsFile) -> CheckpointFile | ForeignFile | None:
    """The checkpoint or UNet that the file is, or None."""
    network = _network(file, lambda names: names.resnet)
    if network is None or network.context_width is None:
        return None
    if other := _OTHER_CHANNELS.get(network.in_channels) or _OTHER_ADDED.get(network.added_width):
        return ForeignFile(other)
    encoders = tuple(_encoders(file))
    return CheckpointFile(
        family=network.family(encoders),
        layout=network.names.layout,
        prefix=network.prefix,
        in_channels=network.in_channels,
        context_width=network.context_width,
        prediction=_prediction(file),
        zero_terminal_snr="ztsnr" in file.tensors,
        text_encoders=encoders,
        vae=vae_file(file),
        ema=any(key.startswith("model_ema.") for key in file.tensors),
    )


def controlnet_file(file: SafetensorsFile) -> ControlNetFile | None:
    """The ControlNet that the file is, or None."""
    network = _network(file, lambda names: names.hint)
    if network is None:
        return None
    return ControlNetFile(
        family=network.family(),
        layout=network.names.layout,
        prefix=network.prefix,
        conditioning_channels=network.tensors[network.names.hint].shape[1],
        context_width=network.context_width,
    )


def _network(file: SafetensorsFile, mark: Callable[[_Names], str]) -> _Network | None:
    """The network that has a first convolution, and another one of the name that `mark` gives."""
    for names in _NAMES:
        for prefix in names.prefixes:
            found = [file.tensors.get(prefix + key) for key in (names.conv_in, mark(names))]
            if all(info and len(info.shape) == 4 for info in found):
                return _Network(names, prefix, _without(prefix, file.tensors))
    return None


def _without(prefix: str, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {
        key.removeprefix(prefix): info for key, info in tensors.items() if key.startswith(prefix)
    }


def _encoders(file: SafetensorsFile) -> Iterator[EncoderKeys]:
    for prefix in _ENCODERS:
        for key, layout in _TOKENS.items():
            if prefix + key in file.tensors:
                yield EncoderKeys(prefix, layout)


def _prediction(file: SafetensorsFile) -> Prediction | None:
    """The prediction that the file records: in a tensor without numbers, or in its metadata."""
    if "v_pred" in file.tensors:
        return "v_prediction"
    texts = (file.metadata.get(name, "") for name in _PREDICTION_FIELDS)
    return next((_PREDICTIONS[text] for text in texts if text in _PREDICTIONS), None)
