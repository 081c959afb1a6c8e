"""Half precision of families that need float32 somewhere, from checkpoint to graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import onnx
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.targets.built_graph import HalfGraph
from support.built_bundle import build_for

pytestmark = pytest.mark.export

TinyBundle: TypeAlias = Callable[[str], Path]
XL_NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder")


def built(source: Path, folder: Path, *components: str) -> Bundle:
    """A copy of a bundle with these networks in float16."""
    root = Path(shutil.copytree(source, folder / "bundle"))
    build_for("cuda", root, components=components)
    return Bundle.open(root)


def test_all_of_sdxl_is_float16_except_its_vae(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    bundle = built(tiny_bundle("xl"), tmp_path, *XL_NETWORKS)
    for component in map(bundle.component, XL_NETWORKS):
        graph = HalfGraph.of(bundle.root, "cuda", component)
        assert graph is not None
        if component.role in ("vae decoder", "vae encoder"):
            assert graph.precision == "fp32"
        else:
            assert (graph.precision, graph.promoted) == ("fp16", ())
            assert graph.psnr is not None
            assert graph.psnr >= 50


def test_attention_of_sd2_is_float16_except_its_scores(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    bundle = built(tiny_bundle("sd2_odd"), tmp_path, "unet")
    graph = HalfGraph.of(bundle.root, "cuda", bundle.component("unet"))
    assert graph is not None
    assert graph.precision == "fp16"
    model = onnx.load(bundle.root / graph.model, load_external_data=False)
    makers = {output: node for node in model.graph.node for output in node.output}
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert softmaxes
    for softmax in softmaxes:
        scores = makers[softmax.input[0]]
        assert scores.op_type == "MatMul"
        for name in scores.input:
            cast = makers[name]
            assert cast.op_type == "Cast"
            assert cast.attribute[0].i == onnx.TensorProto.FLOAT
