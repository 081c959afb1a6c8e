"""Checks of a request against the networks of its bundle."""

from __future__ import annotations

from sdrt import tensor_names as names
from sdrt.bundle.demo import export_with
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import RESIDUALS
from sdrt.errors import RequestError, nearest
from sdrt.request import Request


def require_runnable(request: Request, bundle: Bundle) -> None:
    """RequestError for a request that needs other networks than the bundle has."""
    _check_vae(request, bundle)
    _check_kind(request, bundle)
    _check_texts(request, bundle)
    _check_control(request, bundle)


def _check_kind(request: Request, bundle: Bundle) -> None:
    """RequestError unless the networks are made for this kind of request."""
    if bundle.family.denoiser.extra_channels == "mask" and request.mask is None:
        raise RequestError(
            "this bundle's UNet is made for inpainting: give image and mask_image, or use another "
            "bundle"
        )
    if request.input_image and request.vae is None:
        _check_vae_encoder(bundle)


def _check_texts(request: Request, bundle: Bundle) -> None:
    """RequestError for a second text if there is no second encoder for it."""
    for name in ("prompt_2", "negative_prompt_2"):
        if getattr(request, name) and len(bundle.family.text.encoders) < 2:
            raise RequestError(
                f"{name}: this bundle's model has one text encoder, which reads "
                f"{name.removesuffix('_2')}: leave {name} out"
            )


def _check_vae(request: Request, bundle: Bundle) -> None:
    if request.vae is not None and bundle.find("vae decoder", variant=request.vae) is None:
        raise RequestError(
            f"vae: got '{request.vae}', but this bundle has no {request.vae} VAE: add one with "
            f"`{export_with(f'--{request.vae}-vae PATH', bundle.root)}`"
        )


def _check_vae_encoder(bundle: Bundle) -> None:
    encoder = bundle.find("vae encoder")
    if encoder is None:
        raise RequestError(
            "image: this bundle has no vae_encoder, which reads images: export the checkpoint again"
        )
    outputs = [spec.name for spec in encoder.signature.outputs]
    if names.LATENT_PARAMETERS not in outputs:
        raise RequestError(
            f"image: this bundle's vae_encoder gives {', '.join(outputs)} (an older optimum's), "
            f"expected {names.LATENT_PARAMETERS}: export the checkpoint again"
        )


def _check_control(request: Request, bundle: Bundle) -> None:
    for name in request.controls:
        if not bundle.controlnets:
            raise RequestError(
                f"control: got '{name}', but this bundle has no ControlNet: add one with "
                f"`{export_with(f'--controlnet {name}=PATH', bundle.root)}`"
            )
        if name not in bundle.controlnets:
            near = nearest(name, bundle.controlnets)
            raise RequestError(
                f"control: no ControlNet '{name}'{f', did you mean {near!r}?' if near else ':'} "
                f"this bundle has {', '.join(bundle.controlnets)}"
            )
    if request.control and bundle.find("denoiser", RESIDUALS) is None:
        raise RequestError(
            "control: this bundle's UNet takes no residuals (optimum exports no such UNet): "
            "export the checkpoint with sdrt"
        )
