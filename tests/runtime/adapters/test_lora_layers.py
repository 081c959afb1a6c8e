"""Each kind of LoRA merged into a weight, compared with its formula written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdrt.adapters.lora import Lora
from sdrt.adapters.lora_on_models import changes_of
from support.lora_files import Array, kohya, layer_for
from support.weights_files import write_weights

Shape = tuple[int, ...]

SHAPES: dict[str, Shape] = {
    "linear.weight": (12, 8),
    "linear.bias": (12,),
    "point.weight": (12, 8, 1, 1),
    "kernel.weight": (12, 8, 3, 3),
    "norm.weight": (8,),
    "norm.bias": (8,),
}
BLOCK = "mid_block."
LAYERS = ("linear", "point", "kernel")
SCALE = -0.75


def numbers(*shape: int, seed: int = 0) -> Array:
    random = np.random.default_rng([*shape, seed])
    return random.standard_normal(shape).astype(np.float32)


def weight(name: str) -> Array:
    return numbers(*SHAPES[name], seed=9)


def merged(folder: Path, tensors: dict[str, Array], scale: float = SCALE) -> dict[str, Array]:
    """The weights that a file with these tensors changes, with the changes."""
    lora = Lora.open(write_weights(folder / "a.safetensors", tensors))
    (deltas,) = changes_of(lora, {"unet": {BLOCK + name: SHAPES[name] for name in SHAPES}}).values()
    names = {name: name.removeprefix(BLOCK) for name in deltas}
    found = {names[name]: deltas[name].merged(weight(names[name]), scale) for name in deltas}
    assert all(array.dtype == np.float32 for array in found.values())
    return found


def keys(layer: str, **tensors: Array) -> dict[str, Array]:
    return {f"lora_unet_mid_block_{layer}.{role}": tensor for role, tensor in tensors.items()}


def assert_merged(folder: Path, tensors: dict[str, Array], expected: dict[str, Array]) -> None:
    found = merged(folder, tensors)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("alpha", [None, 1.0, 6.0])
@pytest.mark.parametrize("name", LAYERS)
def test_lora_adds_up_times_down(tmp_path: Path, name: str, alpha: float | None) -> None:
    layer = layer_for("unet", BLOCK + name, SHAPES[f"{name}.weight"], 3, alpha)
    expected = weight(f"{name}.weight") + SCALE * layer.added()
    assert_merged(tmp_path, kohya(layer), {f"{name}.weight": expected})


def test_without_strength_the_weight_stays(tmp_path: Path) -> None:
    layer = layer_for("unet", BLOCK + "kernel", SHAPES["kernel.weight"], 3)
    found = merged(tmp_path, kohya(layer), scale=0.0)
    assert (found["kernel.weight"] == weight("kernel.weight")).all()


@pytest.mark.parametrize(("trained", "name"), [("point", "linear"), ("linear", "point")])
def test_a_kernel_of_one_is_a_matrix(tmp_path: Path, trained: str, name: str) -> None:
    layer = layer_for("unet", BLOCK + name, SHAPES[f"{trained}.weight"], 3)
    added = layer.added().reshape(SHAPES[f"{name}.weight"])
    expected = weight(f"{name}.weight") + SCALE * added
    assert_merged(tmp_path, kohya(layer), {f"{name}.weight": expected})


def test_a_core_is_tuckers_decomposition(tmp_path: Path) -> None:
    up, mid, down = numbers(12, 3, 1, 1), numbers(3, 2, 3, 3), numbers(2, 8, 1, 1)
    tensors = {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down}
    added = np.einsum("oi,ijkl,jc->ockl", up[..., 0, 0], mid, down[..., 0, 0])
    expected = weight("kernel.weight") + SCALE * 0.25 * added
    alpha = np.array(0.5, np.float32)
    assert_merged(tmp_path, keys("kernel", alpha=alpha, **tensors), {"kernel.weight": expected})


@pytest.mark.parametrize("name", LAYERS)
def test_loha_is_a_product_of_two(tmp_path: Path, name: str) -> None:
    shape = SHAPES[f"{name}.weight"]
    columns = int(np.prod(shape[1:]))
    a, b, c, d = (
        numbers(12, 3),
        numbers(3, columns),
        numbers(12, 3, seed=1),
        numbers(3, columns, seed=1),
    )
    tensors = keys(name, hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d)
    tensors |= keys(name, alpha=np.array(1.5, np.float32))
    added = 0.5 * ((a @ b) * (c @ d)).reshape(shape)
    expected = weight(f"{name}.weight") + SCALE * added
    assert_merged(tmp_path, tensors, {f"{name}.weight": expected})


def test_loha_with_cores(tmp_path: Path) -> None:
    cores = [numbers(3, 3, 3, 3, seed=seed) for seed in (1, 2)]
    outs = [numbers(3, 12, seed=seed) for seed in (1, 2)]
    ins = [numbers(3, 8, seed=seed) for seed in (1, 2)]
    tensors = keys("kernel", hada_t1=cores[0], hada_t2=cores[1])
    tensors |= keys("kernel", hada_w1_a=outs[0], hada_w2_a=outs[1])
    tensors |= keys("kernel", hada_w1_b=ins[0], hada_w2_b=ins[1])
    first, second = (
        np.einsum("ijkl,ip,jq->pqkl", *each) for each in zip(cores, outs, ins, strict=True)
    )
    expected = weight("kernel.weight") + SCALE * first * second
    assert_merged(tmp_path, tensors, {"kernel.weight": expected})


def _lokr_first(whole: bool) -> tuple[dict[str, Array], Array]:
    if whole:
        return {"lokr_w1": (w1 := numbers(3, 2))}, w1
    a, b = numbers(3, 2), numbers(2, 2)
    return {"lokr_w1_a": a, "lokr_w1_b": b}, a @ b


def _lokr_second(kind: str, kernel: Shape) -> tuple[dict[str, Array], Array]:
    if kind == "whole":
        return {"lokr_w2": (w2 := numbers(4, 4, *kernel))}, w2
    if kind == "low rank":
        a, b = numbers(4, 2), numbers(2, 4 * int(np.prod(kernel)))
        return {"lokr_w2_a": a, "lokr_w2_b": b}, (a @ b).reshape(4, 4, *kernel)
    core, a, b = numbers(2, 2, *kernel), numbers(2, 4), numbers(2, 4, seed=1)
    added = np.einsum("ij...,ip,jr->pr...", core, a, b)
    return {"lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}, added


@pytest.mark.parametrize(
    ("name", "whole", "kind", "ratio"),
    [
        ("linear", True, "whole", 1.0),  # alpha has no meaning without a rank
        ("linear", False, "whole", 0.25),
        ("linear", True, "low rank", 0.25),
        ("linear", False, "low rank", 0.25),
        ("kernel", True, "whole", 1.0),
        ("kernel", False, "low rank", 0.25),
        ("kernel", True, "core", 0.25),
        ("point", True, "low rank", 0.25),
    ],
)
def test_lokr_is_a_kronecker_product(
    tmp_path: Path, name: str, whole: bool, kind: str, ratio: float
) -> None:
    shape = SHAPES[f"{name}.weight"]
    first, w1 = _lokr_first(whole)
    second, w2 = _lokr_second(kind, shape[2:])
    added = np.einsum("ac,bd...->abcd...", w1, w2).reshape(shape)
    tensors = keys(name, alpha=np.array(0.5, np.float32), **first, **second)
    expected = weight(f"{name}.weight") + SCALE * ratio * added
    assert_merged(tmp_path, tensors, {f"{name}.weight": expected})


@pytest.mark.parametrize("name", LAYERS)
def test_dora_of_peft_scales_what_is_added(tmp_path: Path, name: str) -> None:
    shape = SHAPES[f"{name}.weight"]
    layer, lengths = layer_for("unet", BLOCK + name, shape, 3), np.abs(numbers(12))
    tensors = {
        f"unet.{BLOCK}{name}.lora_A.weight": layer.down,
        f"unet.{BLOCK}{name}.lora_B.weight": layer.up,
        f"unet.{BLOCK}{name}.lora_magnitude_vector": lengths.reshape(1, 12, *shape[2:])
        if shape[2:] == (1, 1)
        else lengths,
    }
    moved = weight(f"{name}.weight") + SCALE * layer.added()
    rows = [length * row / np.linalg.norm(row) for length, row in zip(lengths, moved, strict=True)]
    assert_merged(tmp_path, tensors, {f"{name}.weight": np.array(rows)})


@pytest.mark.parametrize("of_inputs", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_dora_of_lycoris_goes_a_part_of_the_way(tmp_path: Path, name: str, of_inputs: bool) -> None:
    shape, base = SHAPES[f"{name}.weight"], weight(f"{name}.weight")
    ones = (1,) * (len(shape) - 2)
    layer = layer_for("unet", BLOCK + name, shape, 3, alpha=1.5)
    lengths = np.abs(numbers(1, 8, *ones) if of_inputs else numbers(12, 1, *ones))
    moved = base + layer.added()
    if of_inputs:
        norms = np.array([np.linalg.norm(moved[:, i]) for i in range(8)]).reshape(1, 8, *ones)
    else:
        norms = np.array([np.linalg.norm(row) for row in moved]).reshape(12, 1, *ones)
    expected = base + SCALE * (moved * lengths / norms - base)
    tensors = kohya(layer) | keys(name, dora_scale=lengths)
    assert_merged(tmp_path, tensors, {f"{name}.weight": expected})


def test_differences_of_weights_biases_and_norms(tmp_path: Path) -> None:
    differences = {name: numbers(*SHAPES[name], seed=3) for name in SHAPES if "point" not in name}
    tensors = keys("linear", diff=differences["linear.weight"], diff_b=differences["linear.bias"])
    tensors |= keys("kernel", diff=differences["kernel.weight"])
    tensors |= keys("norm", w_norm=differences["norm.weight"], b_norm=differences["norm.bias"])
    expected = {name: weight(name) + SCALE * array for name, array in differences.items()}
    assert_merged(tmp_path, tensors, expected)


def test_a_low_rank_with_the_difference_of_the_bias(tmp_path: Path) -> None:
    layer, bias = layer_for("unet", BLOCK + "linear", (12, 8), 3, alpha=1.5), numbers(12)
    expected = {
        "linear.weight": weight("linear.weight") + SCALE * layer.added(),
        "linear.bias": weight("linear.bias") + SCALE * bias,
    }
    assert_merged(tmp_path, kohya(layer) | keys("linear", diff_b=bias), expected)


def test_peft_may_train_a_bias(tmp_path: Path) -> None:
    layer, bias = layer_for("unet", BLOCK + "linear", (12, 8), 3), numbers(12)
    tensors = {
        "unet.mid_block.linear.lora_A.weight": layer.down,
        "unet.mid_block.linear.lora_B.weight": layer.up,
        "unet.mid_block.linear.lora_B.bias": bias,
    }
    expected = {
        "linear.weight": weight("linear.weight") + SCALE * layer.added(),
        "linear.bias": weight("linear.bias") + SCALE * bias,
    }
    assert_merged(tmp_path, tensors, expected)


def test_tensors_of_any_type_are_computed_in_float32(tmp_path: Path) -> None:
    layer = layer_for("unet", BLOCK + "linear", (12, 8), 3, alpha=2.0)
    half = {key: tensor.astype(np.float16) for key, tensor in kohya(layer).items()}
    half["lora_unet_mid_block_linear.alpha"] = np.array(2, np.int64)
    down, up = (
        half[f"lora_unet_mid_block_linear.lora_{way}.weight"].astype("f4") for way in ("down", "up")
    )
    expected = weight("linear.weight") + SCALE * (2 / 3) * (up @ down)
    assert_merged(tmp_path, half, {"linear.weight": expected})
