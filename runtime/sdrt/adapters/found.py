"""The kinds of files that are recognised, with their facts. Prefixes are those of keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

FamilyName: TypeAlias = Literal[
    "stable-diffusion-1", "stable-diffusion-2", "stable-diffusion-xl", "stable-diffusion-xl-refiner"
]
Layout: TypeAlias = Literal["ldm", "diffusers"]  # whose names the keys are
Prediction: TypeAlias = Literal["epsilon", "v_prediction"]
LoraFormat: TypeAlias = Literal["kohya", "peft", "diffusers", "cloneofsimo", "lycoris"]
Part: TypeAlias = Literal["unet", "text_encoder", "text_encoder_2"]

FAMILY_TITLES: Mapping[FamilyName | None, str] = {
    "stable-diffusion-1": "Stable Diffusion 1",
    "stable-diffusion-2": "Stable Diffusion 2",
    "stable-diffusion-xl": "Stable Diffusion XL",
    "stable-diffusion-xl-refiner": "the Stable Diffusion XL refiner",
    None: "an unknown family",
}
SUPPORTED = (
    "sdrt reads checkpoints, VAEs, ControlNets, LoRAs and embeddings of Stable Diffusion 1, 2, XL"
)


@dataclass(frozen=True)
class EncoderKeys:
    """The place of a CLIP text encoder among the keys of a checkpoint."""

    prefix: str  # before "text_model." or "transformer.resblocks."
    layout: Literal["transformers", "open_clip"]


def _present(**halves: bool) -> tuple[str, ...]:
    return tuple(name for name, there in halves.items() if there)


def _without_half(halves: Collection[str]) -> str:
    return "".join(f" without its {name}" for name in ("encoder", "decoder") if name not in halves)


@dataclass(frozen=True)
class VaeFile:
    """An `AutoencoderKL`, alone or in a checkpoint. A file does not record its scaling factor."""

    kind: ClassVar = "VAE"
    layout: Layout
    prefix: str
    latent_channels: int
    encoder: bool = True
    decoder: bool = True

    @property
    def halves(self) -> tuple[str, ...]:
        """Those of "encoder" and "decoder" that are there."""
        return _present(encoder=self.encoder, decoder=self.decoder)

    @property
    def title(self) -> str:
        return f"a VAE of {self.latent_channels} latent channels{_without_half(self.halves)}"


@dataclass(frozen=True)
class CheckpointFile:
    """A UNet of Stable Diffusion, alone or with text encoders and a VAE."""

    kind: ClassVar = "checkpoint"
    family: FamilyName
    layout: Layout
    prefix: str  # of the UNet: "model.diffusion_model."
    in_channels: int  # 4, or 9 for inpainting
    context_width: int
    prediction: Prediction | None = None  # None: the file does not record it
    zero_terminal_snr: bool = False
    text_encoders: tuple[EncoderKeys, ...] = ()  # in the order of the model
    vae: VaeFile | None = None
    ema: bool = False  # the averaged weights are there, too

    @property
    def title(self) -> str:
        whole = self.text_encoders or self.vae
        inpainting = " for inpainting" if self.in_channels == 9 else ""
        return f"a {'checkpoint' if whole else 'UNet'} of {FAMILY_TITLES[self.family]}{inpainting}"


@dataclass(frozen=True)
class ControlNetFile:
    """A ControlNet."""

    kind: ClassVar = "ControlNet"
    family: FamilyName
    layout: Layout
    prefix: str  # "control_model." or none
    conditioning_channels: int
    context_width: int | None  # None: no layer of it reads the prompt

    @property
    def title(self) -> str:
        return f"a ControlNet for {FAMILY_TITLES[self.family]}"


@dataclass(frozen=True)
class TinyVaeFile:
    """A tiny autoencoder: both halves or one of them, TAESD's files hold one each."""

    kind: ClassVar = "tiny VAE"
    layout: Literal["taesd", "diffusers"]
    encoder: str | None  # the prefix of its keys; None: it is not there
    decoder: str | None
    latent_channels: int

    @property
    def halves(self) -> tuple[str, ...]:
        """Those of "encoder" and "decoder" that are there."""
        return _present(encoder=self.encoder is not None, decoder=self.decoder is not None)

    @property
    def title(self) -> str:
        return f"a tiny VAE of {self.latent_channels} latent channels{_without_half(self.halves)}"


@dataclass(frozen=True)
class LoraFile:
    """A LoRA, or a relative of it that changes the same layers."""

    kind: ClassVar = "LoRA"
    family: FamilyName | None  # None: its shapes fit several families, or none that is known
    format: LoraFormat
    methods: tuple[str, ...]  # that are mixed in it: "LoRA", "DoRA", "LoHa", "LoKr"…
    parts: tuple[Part, ...]
    num_layers: int
    ranks: tuple[int, ...]  # those that occur
    alphas: tuple[float, ...]  # those that occur; none: each is the rank of its layer
    convolutions: bool  # of 3×3
    embeddings: tuple[str, ...] = ()  # those that are packed in the same file

    @property
    def title(self) -> str:
        others = [method for method in self.methods if method != "LoRA"]
        kind = f"LoRA of the kind {', '.join(others)}" if others else "LoRA"
        return f"a {kind} for {FAMILY_TITLES[self.family]}"


@dataclass(frozen=True)
class EmbeddingFile:
    """A textual inversion: vectors for a new token, for each text encoder."""

    kind: ClassVar = "embedding"
    family: FamilyName | None
    keys: tuple[str, ...]  # in the order of the text encoders
    widths: tuple[int, ...]  # likewise
    num_vectors: int
    token: str | None  # if the file names it

    @property
    def title(self) -> str:
        return f"an embedding for {FAMILY_TITLES[self.family]}"


@dataclass(frozen=True)
class ForeignFile:
    """A file that sdrt knows by name, and does not read."""

    kind: ClassVar = "other"
    title: str
    remedy: str = SUPPORTED


Found: TypeAlias = (
    CheckpointFile | VaeFile | TinyVaeFile | ControlNetFile | LoraFile | EmbeddingFile | ForeignFile
)
