"""Single files: the same checkpoints as the diffusers folders that they were made from."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.parts import SCHEDULER_CONFIG, PartKind
from sdrt_export.checkpoints.single_file import single_file
from sdrt_export.networks.loading import MODELS, Part, parts_from_checkpoint
from support.narrow_architectures import ENCODERS
from support.original_layout import SD1, UNET, VAE, Weights, save

pytestmark = [pytest.mark.export, pytest.mark.needs("open_clip")]


def read(weights: Weights, folder: Path, **options: Any) -> Checkpoint:
    return checkpoint_from_source(save(weights, folder / "model.safetensors"), **options)


def parts_of(checkpoint: Checkpoint) -> dict[str, Part]:
    return {part.name: part for part in parts_from_checkpoint(checkpoint)}


@pytest.mark.parametrize("name", ["sd2_v", "xl", "refiner"])
def test_a_file_equals_its_folder(
    name: str,
    narrow_folder: Callable[[str], Path],
    original_weights: Callable[[str], Weights],
    tmp_path: Path,
) -> None:
    """`tests/export/test_single_file.py` compares those of Stable Diffusion 1, exported."""
    file = read(original_weights(name), tmp_path)
    folder = checkpoint_from_source(narrow_folder(name))
    assert (file.kind, file.family) == (folder.kind, folder.family)
    assert json_in(file, INDEX) == json_in(folder, INDEX)
    scheduler, expected = (json_in(each, SCHEDULER_CONFIG) for each in (file, folder))
    assert scheduler.items() <= expected.items()
    for kind in file.kind.parts:
        assert config_of(file, kind) == config_of(folder, kind)
    assert_equal_weights(file, folder)


INDEX = "model_index.json"


def json_in(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint.folder / name).read_text())
    return values


def config_of(checkpoint: Checkpoint, kind: PartKind) -> dict[str, Any]:
    """Its configuration as torch reads it, with all defaults.

    Heads and depths of levels without attention do not count, so these lists may differ.
    """
    with torch.device("meta"):
        config = MODELS[kind].from_config((checkpoint.folder / kind.config).parent, {}).config
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    ignored = {"transformer_layers_per_block", "transformers_version"}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if name not in ignored and not name.startswith("_")
    }


def assert_equal_weights(file: Checkpoint, folder: Checkpoint, *names: str) -> None:
    """Compares these parts, or all; both halves of a VAE have the same weights."""
    given, expected = parts_of(file), parts_of(folder)
    assert given.keys() == expected.keys()
    for name in names or set(expected) - {"vae_encoder"}:
        weights, others = given[name].weights(), expected[name].weights()
        assert weights.keys() == others.keys()
        for key, weight in others.items():
            assert torch.equal(weights[key], weight), key


@pytest.fixture
def expected(narrow_folder: Callable[[str], Path]) -> Checkpoint:
    """The folder of `sd1`."""
    return checkpoint_from_source(narrow_folder("sd1"))


# --- files as they occur

POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"


@pytest.mark.parametrize(
    "positions",
    [torch.arange(77)[None], 0.95 * torch.arange(77).half(), torch.full((1, 77), 4.9999)],
    ids=["integers", "averaged", "constant"],
)
def test_position_ids_never_count(
    positions: torch.Tensor, sd1: Weights, expected: Checkpoint, tmp_path: Path
) -> None:
    """Mergers average them, and cut back to integers some would come twice."""
    file = read(sd1 | {POSITIONS: positions}, tmp_path)
    assert file.notes == ()
    assert_equal_weights(file, expected, "text_encoder")


def renamed(weights: Weights, old: str, new: str) -> Weights:
    return {
        new + key.removeprefix(old) if key.startswith(old) else key: weight
        for key, weight in weights.items()
    }


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("vae_decoder", VAE, "vae."),
        ("text_encoder", f"{SD1['text_encoder']}text_model.", SD1["text_encoder"]),
        ("unet", UNET, "diffusion_model."),
    ],
)
def test_other_prefixes(
    part: str, old: str, new: str, sd1: Weights, expected: Checkpoint, tmp_path: Path
) -> None:
    assert_equal_weights(read(renamed(sd1, old, new), tmp_path), expected, part)


@pytest.mark.parametrize("name", ["sd1", "sd2_v"])
def test_what_training_and_other_programs_leave_is_ignored(
    name: str, original_weights: Callable[[str], Weights], tmp_path: Path
) -> None:
    encoder = ENCODERS[name]["text_encoder"]
    others = {
        "betas": torch.ones(1000),
        "sqrt_recipm1_alphas_cumprod": torch.ones(1000),
        "posterior_mean_coef1": torch.ones(1000),
        "global_step": torch.tensor(875000),
        f"{encoder}logit_scale": torch.tensor(4.6),
        f"{encoder}text_projection": torch.ones(1024, 8),
        f"{VAE}loss.discriminator.main.0.weight": torch.ones(4, 3, 4, 4),
    }
    file = single_file(save(original_weights(name) | others, tmp_path / "it.safetensors"), "it")
    assert file.notes == ()
    used = {key.key for weights in file.weights.values() for key in (weights.names or {}).values()}
    assert not used & set(others)


def test_averaged_weights_are_left_out_with_a_note(
    sd1: Weights, expected: Checkpoint, tmp_path: Path
) -> None:
    """As in diffusers, unless `extract_ema` is given."""
    averaged = {
        f"model_ema.{key.removeprefix('model.').replace('.', '')}": torch.zeros_like(weight)
        for key, weight in sd1.items()
        if key.startswith(UNET)
    }
    file = read(sd1 | averaged | {"model_ema.decay": torch.tensor(0.9999)}, tmp_path)
    assert [note.code for note in file.notes] == ["ema_left_out"]
    assert_equal_weights(file, expected, "unet")


def test_unknown_tensors_are_left_out_with_a_note(sd1: Weights, tmp_path: Path) -> None:
    (note,) = read(sd1 | {"aesthetics.weight": torch.ones(1)}, tmp_path).notes
    assert str(note) == (
        "1 tensors are left out, because they belong to no model that sdrt exports, such as "
        "aesthetics.weight"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_types_of_numbers(dtype: torch.dtype, sd1: Weights, tmp_path: Path) -> None:
    """Some of the weights, as in mixed files. float8 is read as the numbers that it stores."""
    changed = {
        key: weight.to(dtype) if key.startswith(UNET) else weight for key, weight in sd1.items()
    }
    parts = parts_of(read(changed, tmp_path))
    encoder = parts["text_encoder"].weights()
    (norm,) = (name for name in encoder if name.endswith("final_layer_norm.bias"))
    assert encoder[norm].dtype == torch.half
    key = f"{UNET}input_blocks.1.0.in_layers.2.weight"
    weight = parts["unet"].weights()["down_blocks.0.resnets.0.conv1.weight"]
    assert torch.equal(weight.float(), sd1[key].to(dtype).float())


def test_a_part_can_be_pickled(sd1: Weights, tmp_path: Path) -> None:
    """A large model runs in a process of its own."""
    part = parts_of(read(sd1, tmp_path))["vae_decoder"]
    same = pickle.loads(pickle.dumps(part))
    assert torch.equal(same.weights()["quant_conv.bias"], part.weights()["quant_conv.bias"])


def test_the_small_files_are_kept_as_long_as_the_weights(sd1: Weights, tmp_path: Path) -> None:
    checkpoint = read(sd1, tmp_path)
    folder = checkpoint.folder
    part = parts_of(checkpoint)["unet"]
    del checkpoint
    assert part.config.is_file()
    del part
    assert not folder.exists()


# --- predictions


MARKS_OF_V = [
    ({"v_pred": torch.empty(0)}, {}),
    ({}, {"modelspec.prediction_type": "v"}),
    ({}, {"modelspec.predict_key": "v"}),
]


@pytest.mark.parametrize(("marks", "metadata"), MARKS_OF_V)
def test_marks_of_v_prediction(
    marks: Weights,
    metadata: dict[str, str],
    original_weights: Callable[[str], Weights],
    tmp_path: Path,
) -> None:
    path = save(original_weights("xl") | marks, tmp_path / "xl.safetensors", **metadata)
    scheduler = single_file(path, "it").architecture.scheduler
    assert scheduler["prediction_type"] == "v_prediction"
    assert "rescale_betas_zero_snr" not in scheduler
    scheduler = single_file(path, "it", "epsilon").architecture.scheduler
    assert scheduler["prediction_type"] == "epsilon"


@pytest.mark.parametrize(
    ("name", "class_name"), [("sd1", "DDIMScheduler"), ("xl", "EulerDiscreteScheduler")]
)
def test_zero_terminal_snr(
    name: str, class_name: str, original_weights: Callable[[str], Weights], tmp_path: Path
) -> None:
    marks = {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    path = save(original_weights(name) | marks, tmp_path / "model.safetensors")
    scheduler = single_file(path, "it").architecture.scheduler
    assert scheduler["_class_name"] == class_name
    assert scheduler["rescale_betas_zero_snr"] is True
    assert scheduler["timestep_spacing"] == "trailing"
    getattr(diffusers, class_name).from_config(scheduler)
    scheduler = single_file(path, "it", "epsilon").architecture.scheduler
    assert "rescale_betas_zero_snr" not in scheduler  # it would give black images


@pytest.mark.parametrize(
    ("spread", "prediction", "size"), [(0.2, "v_prediction", 96), (0.05, "epsilon", 64)]
)
def test_sd2_without_a_mark_is_recognised_by_a_norm_and_said_to_be_assumed(
    spread: float,
    prediction: str,
    size: int,
    original_weights: Callable[[str], Weights],
    tmp_path: Path,
) -> None:
    """ComfyUI's rule. diffusers takes all of them for v-prediction."""
    norm = f"{UNET}output_blocks.3.1.transformer_blocks.0.norm1.bias"
    marked = {norm: spread * torch.tensor([1.0, -1.0] * 32)}
    unmarked = {key: weight for key, weight in original_weights("sd2_v").items() if key != "v_pred"}
    file = single_file(save(unmarked | marked, tmp_path / "sd2.safetensors"), "it")
    assert file.architecture.scheduler["prediction_type"] == prediction
    assert file.architecture.unet["sample_size"] == size
    (note,) = file.notes
    assert str(note).startswith(f"prediction_type: {prediction} is assumed, because the file")
    assert single_file(tmp_path / "sd2.safetensors", "it", "epsilon").notes == ()


def test_inpainting(sd1: Weights, tmp_path: Path) -> None:
    sd1[f"{UNET}input_blocks.0.0.weight"] = torch.ones(64, 9, 3, 3)
    found = single_file(save(sd1, tmp_path / "model.safetensors"), "it").architecture
    assert found.unet["in_channels"] == 9
    assert found.pipeline == "StableDiffusionInpaintPipeline"
