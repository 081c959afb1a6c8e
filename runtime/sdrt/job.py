"""A request resolved against its bundle: everything that a generation needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sdrt import tensor_names as names
from sdrt.bundle.demo import DEMO, is_demo
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import TINY
from sdrt.control import Control
from sdrt.denoising.controlnets import ControlNet
from sdrt.denoising.start import FromImage, FromNoise, Inpaint, StartKind
from sdrt.denoising.tiling import Tiling
from sdrt.denoising.vae import Autoencoder
from sdrt.errors import BundleError
from sdrt.families.family import Family
from sdrt.images.framing import Frame, Size
from sdrt.images.masks import mask_from_image, paste_back
from sdrt.images.reading import array_from_image
from sdrt.metadata.parameters import absolute, parameters_of_images
from sdrt.notes import Note
from sdrt.request import Request
from sdrt.request_notes import notes_on
from sdrt.resolving import Settings, frame_of, scheduler_of, settings_of
from sdrt.stage import Stage, refiner_stage, require_supported, stage_of
from sdrt.targets.forecast import Work
from sdrt.vae_tiling import notes_on_tiling, request_with_tiling, works_of
from sdrt_engines import Signature

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Job:
    """The work of a generation, down to the names of the networks that it runs."""

    request: Request  # with every None resolved
    work: Work
    size: Size  # of the generated images, before pasting back
    seeds: tuple[int, ...]  # one per image
    start: StartKind
    base: Stage
    refiner: Stage | None  # continues from the latents of `base`
    autoencoder: Autoencoder
    preview: Autoencoder  # the tiny VAE if there is one
    finish: Callable[[Image], Image]  # applied to each generated image
    notes: tuple[Note, ...]
    parameters: tuple[Mapping[str, Any], ...]  # of each image, enough to generate it again

    @property
    def components(self) -> tuple[str, ...]:
        """The networks that run, by name, in the order of their first asks."""
        return tuple(self.work.rows)

    @property
    def num_calls(self) -> int:
        """The number of the calls of all denoisers."""
        return self.base.steps.num_calls + (self.refiner.steps.num_calls if self.refiner else 0)


def job_from_request(
    request: Request,
    bundle: Bundle,
    signatures: Mapping[str, Signature],
    choose: Callable[[Sequence[Work]], Work] = lambda works: works[0],
) -> Job:
    """The job of a request. `signatures` are those of the networks that will run, by name; `choose`
    takes one of the ways to run it, or raises, before arrays are made of the input images.

    Raises the errors of `resolving`, RequestError if an input image does not fit its network, and
    BundleError if a network is missing.
    """
    require_supported(bundle.family)
    settings = settings_of(request, bundle)
    given, request = request, settings.applied_to(request)
    frame = frame_of(request, settings)
    seeds = tuple(settings.seed + i for i in range(request.num_images))
    base = stage_of(request, settings, frame.size, bundle)
    refiner = refiner_stage(request, settings, frame.size, bundle)
    work = choose(_works(request, base, refiner, bundle, signatures, frame.size))
    request = request_with_tiling(request, work)
    return Job(
        request=request,
        work=work,
        size=frame.size,
        seeds=seeds,
        start=_start(request, settings, frame, bundle.family),
        base=replace(base, controlnets=_controlnets(request, bundle, signatures, frame)),
        refiner=refiner,
        autoencoder=_autoencoder(request, bundle, work.tile, refined=refiner is not None),
        preview=_preview(request, bundle, work.tile, refined=refiner is not None),
        finish=_finish(request, frame),
        notes=tuple(dict.fromkeys(_notes(given, settings, bundle, work))),
        parameters=_parameters(request, seeds, bundle),
    )


def _notes(request: Request, settings: Settings, bundle: Bundle, work: Work) -> Iterator[Note]:
    """The notes on what was given."""
    yield from notes_on(request, settings, bundle)
    yield from settings.steps.notes
    if settings.refiner_steps is not None:
        yield from settings.refiner_steps.notes
    yield from notes_on_tiling(request, work)


def _works(
    request: Request,
    base: Stage,
    refiner: Stage | None,
    bundle: Bundle,
    signatures: Mapping[str, Signature],
    size: Size,
) -> Sequence[Work]:
    """The ways to run the request, in order of preference."""
    vae = _autoencoder(request, bundle, refined=refiner is not None)
    rows: dict[str, int] = {}
    if request.input_image is not None:
        rows[vae.encoder] = 1
    for stage, controls in ((base, request.controls), (refiner, ())):
        if stage is None:
            continue
        rows |= dict.fromkeys(_text_encoders(stage.family, bundle, signatures), 1)
        denoisers = (*map(names.controlnet, controls), stage.denoiser)
        rows |= dict.fromkeys(denoisers, request.num_images * len(stage.branches))
    rows[vae.decoder] = 1
    tiled = (vae.encoder, vae.decoder) if vae.variational else ()
    whole = Work(rows, size, bundle.family.latents, vae=tiled)
    return works_of(request, whole, bundle)


def _parameters(
    request: Request, seeds: tuple[int, ...], bundle: Bundle
) -> tuple[Mapping[str, Any], ...]:
    return parameters_of_images(
        replace(request, speed=None),  # its meaning is recorded, which may change with a version
        seeds,
        bundle=_recorded(bundle),
        refiner=None if bundle.refiner is None else _recorded(bundle.refiner),
        scheduler=scheduler_of(request, bundle),
        merged=bundle.manifest.merged,
    )


def _recorded(bundle: Bundle) -> str:
    return DEMO if is_demo(bundle.root) else absolute(str(bundle.root))


def _text_encoders(
    family: Family, bundle: Bundle, signatures: Mapping[str, Signature]
) -> Iterator[str]:
    """Those in the bundle. BundleError if a missing one is required."""
    for encoder in family.text.encoders:
        if encoder.component in signatures:
            if encoder.kind != "clip":
                raise BundleError(
                    f"{encoder.component}: this sdrt does not run {encoder.kind} encoders: "
                    "use a newer sdrt"
                )
            yield encoder.component
        elif encoder.required:
            bundle.component(encoder.component)


def _autoencoder(
    request: Request, bundle: Bundle, tile: int | None = None, *, refined: bool
) -> Autoencoder:
    """The VAE; the decoder of refined images is the refiner's, as in diffusers, unless the request
    names a variant."""
    if request.vae is not None:
        return _variant_of_vae(request.vae, bundle)
    found = bundle.find("vae encoder")
    encoder = names.VAE_ENCODER if found is None else found.name  # needed only for input images
    if refined and bundle.refiner is not None:
        decoder = names.of_refiner(bundle.refiner.name_of("vae decoder"))
    else:
        decoder = bundle.name_of("vae decoder")
    tiling = None if tile is None else Tiling.of(tile)
    return Autoencoder(encoder, decoder, bundle.family.latents, tiling)


def _variant_of_vae(variant: str, bundle: Bundle) -> Autoencoder:
    encoder, decoder = (
        bundle.component(bundle.name_of(role, variant=variant))
        for role in ("vae encoder", "vae decoder")
    )
    variational = names.LATENT_PARAMETERS in (spec.name for spec in encoder.signature.outputs)
    latents = decoder.latents or bundle.family.latents
    return Autoencoder(encoder.name, decoder.name, latents, variational=variational)


def _preview(request: Request, bundle: Bundle, tile: int | None, *, refined: bool) -> Autoencoder:
    """The VAE for images of single steps."""
    if bundle.find("vae decoder", variant=TINY) is not None:
        return _variant_of_vae(TINY, bundle)
    return _autoencoder(request, bundle, tile, refined=refined)


def _start(request: Request, settings: Settings, frame: Frame, family: Family) -> StartKind:
    if request.input_image is None:
        return FromNoise()
    pixels = array_from_image(frame(request.input_image.image))  # (1, 3, H, W)
    if request.mask is None:
        return FromImage(pixels, settings.steps.first)
    return Inpaint(
        pixels,
        mask_from_image(request.mask.image, frame),
        settings.steps.first,
        from_noise=settings.strength == 1,
        sees_mask=family.denoiser.extra_channels == "mask",
    )


def _controlnets(
    request: Request, bundle: Bundle, signatures: Mapping[str, Signature], frame: Frame
) -> tuple[ControlNet, ...]:
    return tuple(
        _controlnet(name, control, bundle, signatures, frame)
        for name, control in request.controls.items()
    )


def _controlnet(
    name: str,
    control: Control,
    bundle: Bundle,
    signatures: Mapping[str, Signature],
    frame: Frame,
) -> ControlNet:
    component = names.controlnet(name)
    signature = signatures[component]
    num_channels = signature.input(names.CONTROLNET_COND).shape[1]
    config = bundle.component_config(component)
    return ControlNet(
        component,
        signature,
        control,
        image=control.conditioning(num_channels, frame),
        pools_globally=bool(config.get("global_pool_conditions")),
    )


def _finish(request: Request, frame: Frame) -> Callable[[Image], Image]:
    """Pastes an image back into the larger one that it is a part of."""
    if frame.box is None or request.input_image is None or request.mask is None:
        return lambda image: image
    return partial(
        paste_back, image=request.input_image.image, mask=request.mask.image, box=frame.box
    )
