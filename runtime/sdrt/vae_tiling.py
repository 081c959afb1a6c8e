"""The choice of a request between the VAE on whole images and the VAE in tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sdrt.bundle.folder import Bundle
from sdrt.denoising.tiling import MIN_TILE, tile_from_config, with_halves
from sdrt.errors import BundleError, RequestError
from sdrt.files.json_fields import JsonFields, within
from sdrt.images.framing import size_text
from sdrt.notes import Note
from sdrt.request import Request
from sdrt.targets.forecast import Work


def works_of(request: Request, whole: Work, bundle: Bundle) -> tuple[Work, ...]:
    """The ways to run a request, in order of preference: those that it leaves open.

    RequestError for tiles that this VAE cannot run. A tiny VAE runs on whole images only.
    """
    if not whole.vae:
        return (whole,)
    if request.vae_tiling:
        tile = _given_tile(request, bundle) or _own_tile(bundle)
        return (replace(whole, tile=tile, smaller_tiles=_smaller_than(tile, whole, bundle)),)
    longest = max(whole.size) // whole.latents.vae_scale_factor
    whole = replace(whole, smaller_tiles=_smaller_than(longest, whole, bundle))
    automatic = request.vae_tiling is None
    return (whole, *whole.in_smaller_tiles) if automatic else (whole,)


def request_with_tiling(request: Request, work: Work) -> Request:
    """The request with the tiles that will run."""
    if work.tile is None:
        return replace(request, vae_tiling=False, vae_tile_size=None)
    return replace(request, vae_tiling=True, vae_tile_size=_pixels(work.tile, work))


def notes_on_tiling(request: Request, work: Work) -> Iterator[Note]:
    if request.vae_tiling and not work.vae:
        yield Note(
            "vae_not_tiled",
            "vae_tiling",
            f"vae_tiling: has no effect with vae={request.vae}: it runs on the whole image, and "
            "takes a fraction of the memory",
        )
    if request.vae_tiling is None and work.tile is not None:
        size = size_text((_pixels(work.tile, work),) * 2)
        yield Note(
            "vae_tiled",
            "vae_tiling",
            f"vae_tiling: the VAE runs in tiles of {size} pixels, because the whole image does "
            "not fit into memory: the result differs slightly from that of a whole image",
        )


def _pixels(tile: int, work: Work) -> int:
    return tile * work.latents.vae_scale_factor


def _given_tile(request: Request, bundle: Bundle) -> int | None:
    size, factor = request.vae_tile_size, bundle.family.latents.vae_scale_factor
    if size is None:
        return None
    if size % factor or size < MIN_TILE * factor:
        raise RequestError(
            f"vae_tile_size: got {size}, expected a multiple of {factor}, at least "
            f"{MIN_TILE * factor}, for this VAE"
        )
    return size // factor


def _own_tile(bundle: Bundle) -> int:
    name = bundle.name_of("vae decoder")
    config = JsonFields(bundle.component_config(name))
    with within(f"{name}/config.json"):
        return tile_from_config(config, bundle.family.latents)


def _smaller_than(side: int, work: Work, bundle: Bundle) -> tuple[int, ...]:
    """The tiles that would take less memory than one of this side; none if the VAE's own size is
    unknown."""
    try:
        own = _own_tile(bundle)
    except BundleError:
        return ()
    return tuple(tile for tile in with_halves(own) if tile < side)
