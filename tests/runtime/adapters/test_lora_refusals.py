"""LoRA files that are not applied: broken ones, other kinds, and those for another model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.adapters.lora import Lora
from sdrt.adapters.lora_on_models import changes_of
from sdrt.errors import FileError, quoted
from support.lora_files import Array, diffusers, kohya, kohya_xl, layer_for, peft, write_lora
from support.weights_files import Tensor, write_weights

IN_UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
IN_TEXT = "text_model.encoder.layers.0.self_attn"
UNET = {f"{IN_UNET}.to_k.weight": (8, 768), f"{IN_UNET}.to_q.weight": (8, 8)}
TEXT = {f"{IN_TEXT}.q_proj.weight": (16, 16), f"{IN_TEXT}.q_proj.bias": (16,)}
MODELS: dict[str, Any] = {"unet": UNET, "text_encoder": TEXT}

KEY = f"lora_unet_{IN_UNET.replace('.', '_')}_to_k"
LAYER = layer_for("unet", f"{IN_UNET}.to_k", (8, 768), 4)
QUERY = layer_for("unet", f"{IN_UNET}.to_q", (8, 8), 4)
IN_SECOND = layer_for("text_encoder_2", f"{IN_TEXT}.q_proj", (16, 16), 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my style v1.1.safetensors"


def refusal_of(path: Path, models: Mapping[str, Any] = MODELS) -> str:
    """The message, one line that begins with the file's path, which is left out here."""
    with pytest.raises(FileError) as caught:
        lora = Lora.open(path)
        lora.check_values()
        changes_of(lora, models)
    message = str(caught.value)
    assert message.startswith((f"'{path}' ", f"{path}: "))
    assert "\n" not in message
    return message.removeprefix(f"'{path}' ").removeprefix(f"{path}: ")


def refusal_of_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    return refusal_of(write_weights(path, tensors))


def test_the_file_of_these_tests_is_applied(path: Path) -> None:
    changes = changes_of(Lora.open(write_lora(path, [LAYER, QUERY])), MODELS)
    assert changes["unet"].keys() == UNET.keys()


@pytest.mark.parametrize(
    ("role", "shape", "message"),
    [
        (
            "lora_up.weight",
            (8, 3),
            "the ranks of UP [8, 3], DOWN [4, 768] do not fit each other: the fi",
        ),
        (
            "lora_up.weight",
            (),
            "UP has the shape [], expected a matrix: the file is damaged: get it",
        ),
        ("lora_down.weight", (0, 768), "has the shape [0, 768], expected a matrix: the file is da"),
        (
            "lora_mid.weight",
            (3, 4, 1, 1),
            "the ranks of UP [8, 4], DOWN [4, 768], MID [3, 4, 1, 1] do not fit",
        ),
        ("alpha", (2,), "ALPHA has the shape [2], expected a number: the file is damaged: get"),
        (
            "lora_down.weight",
            (4, 1024),
            "changes unet.NAME.weight by a tensor of the shape [8, 1024",
        ),
        ("dora_scale", (7, 1), "changes unet.NAME.weight by a tensor of the shape [8, 768], but i"),
    ],
)
def test_shapes_that_do_not_fit(path: Path, role: str, shape: Any, message: str) -> None:
    tensors: dict[str, Tensor] = {**kohya(LAYER), f"{KEY}.{role}": shape}
    names = {"UP": "lora_up.weight", "DOWN": "lora_down.weight", "MID": "lora_mid.weight"}
    for name, key in {**names, "ALPHA": "alpha"}.items():
        message = message.replace(name, quoted(f"{KEY}.{key}"))
    message = message.replace("NAME", f"{IN_UNET}.to_k")
    assert message in refusal_of_tensors(path, tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["lora_up.weight", "alpha"])
def test_numbers_that_are_not_finite(path: Path, role: str, value: float) -> None:
    tensors = {**kohya(LAYER), f"{KEY}.alpha": np.array(1, np.float32)}
    tensors[f"{KEY}.{role}"] = np.full_like(tensors[f"{KEY}.{role}"], value)
    message = refusal_of_tensors(path, tensors)
    key = quoted(f"{KEY}.{role}")
    assert message.startswith(f"{key} holds NaN or infinity: the file is damaged: get it")


@pytest.mark.parametrize("role", ["lora_up.weight", "lora_down.weight"])
def test_half_a_layer(path: Path, role: str) -> None:
    tensors = kohya(LAYER)
    del tensors[f"{KEY}.{role}"]
    rest = "down" if "up" in role else "up"
    assert f"the layer '{KEY}' has {rest}, which is not a complete LoRA, LoHa or LoKr" in (
        refusal_of_tensors(path, tensors)
    )


def test_two_differences_of_one_weight(path: Path) -> None:
    message = refusal_of_tensors(path, {f"{KEY}.diff": (8, 768), f"{KEY}.w_norm": (8, 768)})
    assert f"the layer {quoted(KEY)} has diff, w_norm, which is not a complete LoRA" in message


def test_unknown_keys_are_listed(path: Path) -> None:
    others = {f"other.{number}": (2,) for number in range(12)}
    message = refusal_of_tensors(path, {**kohya(LAYER), **others})
    assert message == (
        "12 of its 14 keys are not those of a LoRA ("
        + ", ".join(f"'other.{number}'" for number in range(10))
        + " and 2 more), so it is not applied at all: use a file without them"
    )


def test_unknown_layers_are_listed(path: Path) -> None:
    unknown = layer_for("unet", "down_blocks.7.attentions.0.proj_in", (8, 8), 4)
    message = refusal_of(write_lora(path, [LAYER, unknown]))
    assert message == (
        "has 2 layers, of which the checkpoint lacks 1 "
        "('lora_unet_down_blocks_7_attentions_0_proj_in'), so it is not applied at all: use it "
        "with the kind of checkpoint that it was trained for (Stable Diffusion 1)"
    )


def test_a_text_encoder_that_is_not_there(path: Path) -> None:
    message = refusal_of(write_lora(path, [LAYER, IN_SECOND], kohya_xl))
    assert message.startswith(
        "changes text_encoder_2, which the checkpoint does not have ('lora_te"
    )
    assert "so it is not applied at all: " in message


def test_another_family(path: Path) -> None:
    wide = layer_for("unet", f"{IN_UNET}.to_k", (8, 2048), 4)
    assert refusal_of(write_lora(path, [wide])) == (
        f"changes unet.{IN_UNET}.to_k.weight by a tensor of the shape [8, 2048], but in the "
        "checkpoint it has the shape [8, 768]: use it with the kind of checkpoint that it was "
        "trained for (Stable Diffusion XL)"
    )


def test_a_bias_that_is_not_there(path: Path) -> None:
    tensors = {**diffusers(QUERY), f"unet.{IN_UNET}.to_q.lora_B.bias": np.ones(8, np.float32)}
    message = refusal_of_tensors(path, tensors)
    assert f"changes unet.{IN_UNET}.to_q.bias by a tensor of the shape [8], but in the c" in message
    assert "checkpoint it is not there" in message


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{KEY}.oft_blocks": (2, 4, 4)}, "is of the kind OFT, which sdrt does not read: it rea"),
        ({f"{KEY}.on_input": (1,)}, "is of the kind IA3, which sdrt does not read"),
        (
            {f"{KEY}.{role}.weight": (4, 4) for role in ("a1", "a2", "b1", "b2")},
            "is of the kind GLoRA, which sdrt does not read",
        ),
        (
            {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (4, 8)},
            "is a LoRA for Flux or HunyuanVideo, expected a LoRA: sdrt reads",
        ),
        (
            {"emb_params": (2, 768)},
            "is an embedding for Stable Diffusion 1, expected a LoRA: sdrt export MODEL "
            "--embedding FILE -o BUNDLE",
        ),
        ({"w": (4, 4), "v": (2,)}, "not a kind of file that sdrt knows"),
        ({}, "not a kind of file that sdrt knows: it has 0 tensors"),
    ],
    ids=["oft", "ia3", "glora", "flux", "embedding", "other", "no tensors"],
)
def test_other_kinds_are_named(path: Path, tensors: dict[str, Tensor], message: str) -> None:
    assert message in refusal_of_tensors(path, tensors)


def test_a_layer_under_two_keys(path: Path) -> None:
    twice = {**kohya(QUERY), **diffusers(QUERY)}
    message = refusal_of_tensors(path, twice)
    assert f"changes unet.{IN_UNET}.to_q.weight twice, under two keys: the file is" in message


def test_the_same_role_under_two_keys(path: Path) -> None:
    twice = {**diffusers(QUERY), f"unet.{IN_UNET}.to_q.lora_A.default.weight": QUERY.down}
    assert "1 of its 3 keys are not those of a LoRA" in refusal_of_tensors(path, twice)


def test_which_of_two_encoders(path: Path) -> None:
    keys = {key.removeprefix("text_encoder_2."): t for key, t in diffusers(IN_SECOND).items()}
    write_weights(path, keys)
    assert changes_of(Lora.open(path), MODELS).keys() == {"text_encoder"}
    message = refusal_of(path, {**MODELS, "text_encoder_2": TEXT})
    assert f"'{IN_TEXT}.q_proj' is in text_encoder and text_encoder_2, and the file does" in message


def test_broken_files(path: Path) -> None:
    write_lora(path, [LAYER])
    path.write_bytes(path.read_bytes()[:-4])
    assert "not a complete safetensors file" in refusal_of(path)
    path.write_bytes(pickle.dumps({KEY: [1.0]}))
    assert "is a pickle, which runs code when it is loaded, so sdrt refuses it" in refusal_of(path)
    path.write_bytes(b"")
    assert "safetensors" in refusal_of(path)
    path.write_text("a text")
    assert "safetensors" in refusal_of(path)


# --- peft's configuration


def test_peft_s_strength_is_next_to_the_file(path: Path) -> None:
    write_lora(path, [LAYER], peft)
    message = refusal_of(path)
    assert "which writes the strength of its layers into adapter_config.json: put that" in message
    config = path.with_name("adapter_config.json")
    config.write_text(json.dumps({"lora_alpha": 6, "r": 4}))
    delta = changes_of(Lora.open(path), MODELS)["unet"][f"{IN_UNET}.to_k.weight"]
    assert delta.ratio == 1.5


@pytest.mark.parametrize(
    ("config", "ratio"),
    [
        ({"lora_alpha": 6}, 1.5),
        ({"lora_alpha": 6, "use_rslora": True}, 3.0),
        ({"alpha": 2}, 0.5),  # of LoHa and LoKr
        ({"lora_alpha": 6, "alpha_pattern": {"to_k": 2, "to_q": 9}}, 0.5),
        ({"lora_alpha": 6, "alpha_pattern": {"attn2.to_k": 2}}, 0.5),
        ({"lora_alpha": 6, "alpha_pattern": {"2.to_k": 2}}, 1.5),  # a part of a name
        ({"lora_alpha": 6, "alpha_pattern": {f"^{IN_UNET}.to_k": 2}}, 0.5),
        ({"lora_alpha": 6, "alpha_pattern": {"^attn2.to_k": 2}}, 1.5),
        ({"lora_alpha": 6, "alpha_pattern": None, "use_rslora": None}, 1.5),
    ],
)
@pytest.mark.parametrize("place", ["metadata", "file"])
def test_the_strengths_of_peft(
    path: Path, config: dict[str, Any], ratio: float, place: str
) -> None:
    if place == "file":
        path.with_name("adapter_config.json").write_text(json.dumps(config))
        write_lora(path, [LAYER], peft)
    else:  # as diffusers writes it
        values = {f"unet.{name}": value for name, value in config.items()}
        write_lora(path, [LAYER], diffusers, {"lora_adapter_metadata": json.dumps(values)})
    delta = changes_of(Lora.open(path), MODELS)["unet"][f"{IN_UNET}.to_k.weight"]
    assert delta.ratio == ratio


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "alpha: missing: download or save it again"),
        ('{"lora_alpha": "6"}', 'lora_alpha: got "6", expected a number'),
        ('{"lora_alpha": 6, "alpha_pattern": [1]}', "expected an object"),
        ('{"lora_alpha": 6, "alpha_pattern": {".*to_k": 2}}', "got '.*to_k', expected the names"),
        ('{"lora_alpha": 6, "use_rslora": 1}', "use_rslora: got 1, expected true or false"),
    ],
)
def test_a_configuration_that_is_broken(path: Path, text: str, message: str) -> None:
    write_lora(path, [LAYER], peft)
    config = path.with_name("adapter_config.json")
    config.write_text(text)
    with pytest.raises(FileError) as caught:
        changes_of(Lora.open(path), MODELS)
    assert str(caught.value).startswith(f"{config}: ")
    assert message in str(caught.value)
    metadata = {"lora_adapter_metadata": text.replace('{"', '{"unet.', 1)}
    write_lora(path, [LAYER], diffusers, metadata)
    if text != "{}":
        assert refusal_of(path).startswith("its metadata: ")


def test_an_array_is_not_changed_by_order(path: Path) -> None:
    """The ratio belongs to a layer, whatever the order of keys and the ranks of others."""
    one = layer_for("unet", f"{IN_UNET}.to_q", (8, 8), 2)
    tensors: dict[str, Array] = {**kohya(LAYER), **kohya(one)}
    for order in (tensors, dict(reversed(tensors.items()))):
        deltas = changes_of(Lora.open(write_weights(path, order)), MODELS)["unet"]
        assert {delta.ratio for delta in deltas.values()} == {1.0}
