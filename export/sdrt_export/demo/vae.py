"""The demo's AutoencoderKL: 128×128 images to latents 4×16×16 of zero mean and unit spread, and
back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from sdrt_export.demo.drawing import IMAGE_SIZE, draw_shift, image_from_scene, mask_from_scene
from sdrt_export.demo.grammar import ALL_SCENES
from sdrt_export.demo.loop import Schedule, num_processes, train

KL_WEIGHT = (
    5e-4  # per latent element: latents near unit scale, a decoder that forgives small errors
)

# Most of the training sees crops of half the side: a quarter of the work, and every crop shows an
# edge.
CROPS = Schedule(num_steps=2800, learning_rate=2e-3)
WHOLE = Schedule(num_steps=250, learning_rate=4e-4, num_warmup_steps=20)
CROP_SIZE = IMAGE_SIZE // 2
BATCH = 16


def new_vae() -> AutoencoderKL:
    """The untrained autoencoder, 1.0 M parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
    )


def train_vae(work: Path, num_images: int = 6000) -> AutoencoderKL:
    """Trains the autoencoder, or resumes the run in `work`; the latents of the result are
    normalised.
    """
    torch.manual_seed(0)
    vae = new_vae().to(memory_format=torch.channels_last)
    images, centres = _draw_images(num_images)

    def loss_of_crops(step: int, rng: np.random.Generator) -> torch.Tensor:
        chosen = rng.integers(num_images, size=BATCH // num_processes())
        corners = _draw_corners(centres[chosen], rng)
        crops = [
            images[i, y : y + CROP_SIZE, x : x + CROP_SIZE]
            for i, (x, y) in zip(chosen, corners, strict=True)
        ]
        return vae_loss(vae, tensor_from_images(np.stack(crops)))

    def loss_of_whole(step: int, rng: np.random.Generator) -> torch.Tensor:
        return vae_loss(
            vae,
            tensor_from_images(
                images[rng.integers(num_images, size=BATCH // 2 // num_processes())]
            ),
        )

    average = train("VAE, crops", vae, loss_of_crops, CROPS, work / "vae_crops.pt")
    vae.load_state_dict(average.state_dict())
    average = train("VAE, whole images", vae, loss_of_whole, WHOLE, work / "vae_whole.pt")
    normalize_latents(average, tensor_from_images(images[:256]))
    return average


def vae_loss(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of the reconstruction, and the KL divergence per latent
    element."""
    posterior = vae.encode(images).latent_dist
    rebuilt = vae.decode(posterior.sample()).sample
    error = functional.l1_loss(rebuilt, images) + functional.mse_loss(rebuilt, images)
    num_elements = posterior.mean[0].numel()
    return error + KL_WEIGHT * posterior.kl().mean() / num_elements


@torch.no_grad()
def normalize_latents(vae: AutoencoderKL, images: torch.Tensor) -> None:
    """Rescales the two 1×1 convolutions around the latents so that each channel has mean 0 and
    spread 1.

    The images do not change; the UNet's latents then need no scaling factor.
    """
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in images.split(32)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    encode, decode = vae.quant_conv, vae.post_quant_conv
    num_channels = mean.numel()
    encode.weight[:num_channels] /= std[:, None, None, None]
    encode.bias[:num_channels] = (encode.bias[:num_channels] - mean) / std
    encode.bias[num_channels:] -= 2 * std.log()  # the second half is the log-variance
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight *= std[None, :, None, None]


def tensor_from_images(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """`(B, h, w, 3)` in 0..255 to `(B, 3, h, w)` in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _draw_images(num_images: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images `(n, 128, 128, 3)` and the centres `(n, 2)` of their shapes, (x, y) in
    pixels."""
    rng = np.random.default_rng(0)
    images = np.empty((num_images, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    centres = np.empty((num_images, 2), np.int64)
    for i in range(num_images):
        scene, shift = ALL_SCENES[rng.integers(len(ALL_SCENES))], draw_shift(rng)
        images[i] = image_from_scene(scene, shift)
        rows, columns = np.nonzero(mask_from_scene(scene, shift))
        centres[i] = columns.mean(), rows.mean()
    return images, centres


def _draw_corners(
    centres: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Upper left corners `(n, 2)` of crops that contain the shape's centre and lie inside the
    image.
    """
    inside = rng.integers(8, CROP_SIZE - 8, size=centres.shape)
    corners: npt.NDArray[np.int64] = np.clip(centres - inside, 0, IMAGE_SIZE - CROP_SIZE)
    return corners
