"""The contents of checkpoints, as tables: a row for each model, a tuple of rows for each kind.

A new family needs rows here, and rows in `networks.loading` for the torch side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, Literal, TypeAlias

from sdrt.bundle.optimum_folder import MODEL_INDEX
from sdrt.families.known import TINY_VAE_CLASS, has_part
from sdrt.files.json_fields import JsonFields
from sdrt_export.errors import CheckpointError

CONFIG_NAME: Final = "config.json"
SCHEDULER: Final = "scheduler"
SCHEDULER_CONFIG: Final = f"{SCHEDULER}/scheduler_config.json"

Purpose: TypeAlias = Literal["text encoder", "denoiser", "vae", "controlnet"]


@dataclass(frozen=True)
class Library:
    """A library's names for the files in a model's folder."""

    class_field: str  # the field of the configuration with the model's class
    weights: str  # the stem of the weights files


DIFFUSERS: Final = Library("_class_name", "diffusion_pytorch_model")
TRANSFORMERS: Final = Library("model_type", "model")


@dataclass(frozen=True)
class PartKind:
    """One model of a checkpoint, with the facts that can be checked without torch."""

    purpose: Purpose
    title: str  # in messages
    folder: str  # in the checkpoint; "": the model is its own checkpoint
    library: Library
    class_name: str  # expected in the library's `class_field`
    sizes: tuple[str, ...]  # fields of the configuration that are checked before torch allocates
    absent: tuple[str, ...] = ()  # options of other families, which add inputs
    present: tuple[tuple[str, str], ...] = ()  # options of this one, with their values
    architecture: str | None = None  # the class in transformers, if its `model_type` has several
    num_time_ids: int = 0  # numbers about the image that a denoiser takes (SDXL)
    tokenizer: str | None = None  # the folder of a text encoder's tokenizer

    @property
    def config(self) -> str:
        """The configuration's path in the checkpoint."""
        return PurePosixPath(self.folder, CONFIG_NAME).as_posix()

    @property
    def weights(self) -> str:
        """The path of its weights in the checkpoint, without variant, shard and suffix."""
        return PurePosixPath(self.folder, self.library.weights).as_posix()


@dataclass(frozen=True)
class CheckpointKind:
    """The contents of the checkpoints of related families."""

    title: str  # in messages
    pipelines: tuple[str, ...]  # parts of the names of their pipeline classes in diffusers
    families: tuple[str, ...]  # names of `Family`
    parts: tuple[PartKind, ...]  # in the order in which an image passes through them
    controlnet: PartKind | None  # None: diffusers has no pipeline with one

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The folders of its tokenizers."""
        return tuple(part.tokenizer for part in self.parts if part.tokenizer is not None)

    @property
    def copied_folders(self) -> tuple[str, ...]:
        """The folders that are copied into a bundle unchanged."""
        return *self.tokenizers, SCHEDULER

    @property
    def small_files(self) -> tuple[str, ...]:
        """Names and patterns of all files that an export reads, except weights."""
        configs = (f"{part.folder}/*.json" for part in self.parts)
        return MODEL_INDEX, *(f"{folder}/*" for folder in self.copied_folders), *configs

    def part(self, purpose: Purpose) -> PartKind:
        """Its only part for that purpose."""
        (found,) = self.parts_for(purpose)
        return found

    def parts_for(self, purpose: Purpose) -> tuple[PartKind, ...]:
        """Its parts for that purpose."""
        return tuple(part for part in self.parts if part.purpose == purpose)


# --- the rows

# Options that give a UNet or a ControlNet further inputs: IP-Adapter, unCLIP, upscalers, others.
_FURTHER_INPUTS = ("class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
_ADDITION = "addition_embed_type"
_TEXT_AND_TIME = ((_ADDITION, "text_time"),)

TEXT_ENCODER: Final = PartKind(
    purpose="text encoder",
    title="text encoder",
    folder="text_encoder",
    library=TRANSFORMERS,
    class_name="clip_text_model",
    sizes=("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"),
    tokenizer="tokenizer",
)
UNET: Final = PartKind(
    purpose="denoiser",
    title="UNet",
    folder="unet",
    library=DIFFUSERS,
    class_name="UNet2DConditionModel",
    sizes=("in_channels", "out_channels", "block_out_channels", "layers_per_block"),
    absent=(_ADDITION, *_FURTHER_INPUTS),
)
VAE: Final = PartKind(
    purpose="vae",
    title="VAE",
    folder="vae",
    library=DIFFUSERS,
    class_name="AutoencoderKL",
    sizes=("in_channels", "out_channels", "latent_channels", "block_out_channels"),
)
OTHER_VAE: Final = replace(VAE, folder="")  # which takes the place of a checkpoint's own
TINY_VAE: Final = PartKind(
    purpose="vae",
    title="tiny VAE",
    folder="",
    library=DIFFUSERS,
    class_name=TINY_VAE_CLASS,
    sizes=(
        *("in_channels", "out_channels", "latent_channels", "upsampling_scaling_factor"),
        *("encoder_block_out_channels", "decoder_block_out_channels"),
        *("num_encoder_blocks", "num_decoder_blocks"),
    ),
)
CONTROLNET: Final = PartKind(
    purpose="controlnet",
    title="ControlNet",
    folder="",
    library=DIFFUSERS,
    class_name="ControlNetModel",
    sizes=(),  # each must equal a size of the UNet
    absent=(_ADDITION, *_FURTHER_INPUTS),
)

STABLE_DIFFUSION: Final = CheckpointKind(
    title="Stable Diffusion 1 and 2",
    pipelines=("StableDiffusion", "LatentConsistencyModel"),
    families=("stable-diffusion-1", "stable-diffusion-2"),
    parts=(TEXT_ENCODER, UNET, VAE),
    controlnet=CONTROLNET,
)

TEXT_ENCODER_2: Final = replace(
    TEXT_ENCODER,
    title="second text encoder",
    folder="text_encoder_2",
    sizes=(*TEXT_ENCODER.sizes, "projection_dim"),
    architecture="CLIPTextModelWithProjection",
    tokenizer="tokenizer_2",
)
UNET_XL: Final = replace(
    UNET,
    sizes=(*UNET.sizes, "addition_time_embed_dim", "projection_class_embeddings_input_dim"),
    absent=_FURTHER_INPUTS,
    present=_TEXT_AND_TIME,
    num_time_ids=6,  # original size, crop and target size
)
REFINER_UNET: Final = replace(UNET_XL, num_time_ids=5)  # original size, crop, aesthetic score
CONTROLNET_XL: Final = replace(
    CONTROLNET,
    absent=_FURTHER_INPUTS,
    present=_TEXT_AND_TIME,
    num_time_ids=UNET_XL.num_time_ids,
)

STABLE_DIFFUSION_XL: Final = CheckpointKind(
    title="Stable Diffusion XL models",
    pipelines=("StableDiffusionXL",),
    families=("stable-diffusion-xl",),
    parts=(TEXT_ENCODER, TEXT_ENCODER_2, UNET_XL, VAE),
    controlnet=CONTROLNET_XL,
)
REFINER: Final = CheckpointKind(
    title="refiners of Stable Diffusion XL",
    pipelines=("StableDiffusionXL",),
    families=("stable-diffusion-xl-refiner",),
    parts=(TEXT_ENCODER_2, REFINER_UNET, VAE),
    controlnet=None,
)

KINDS: Final = (STABLE_DIFFUSION, STABLE_DIFFUSION_XL, REFINER)


def kind_of_index(index: JsonFields) -> CheckpointKind:
    """The kind of a pipeline that `families.known` knows, from its model_index.json.

    The longest of `pipelines` in its class decides; then the text encoders that the pipeline has.
    """
    class_name = index.text("_class_name")

    def fit(kind: CheckpointKind) -> tuple[int, bool]:
        lengths = (len(name) for name in kind.pipelines if name in class_name)
        encoders = kind.parts_for("text encoder")
        return max(lengths, default=0), all(has_part(index, part.folder) for part in encoders)

    return max(KINDS, key=fit)


def kind_of_family(name: str) -> CheckpointKind:
    """The kind of a family. CheckpointError if this version exports no such family."""
    for kind in KINDS:
        if name in kind.families:
            return kind
    known = ", ".join(kind.title for kind in KINDS)
    raise CheckpointError(
        f"family '{name}': this sdrt exports {known}: use the version that made the bundle"
    )
