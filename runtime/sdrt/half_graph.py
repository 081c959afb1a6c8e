"""A network in half precision, for backends that run ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdrt.files.json_fields import JsonFields
from sdrt.targets.built_graph import BuiltGraph


@dataclass(frozen=True)
class HalfGraph(BuiltGraph):
    """With what the precision policy made of it."""

    RECORD_NAME = "half.json"

    precision: str  # "fp16"; "fp32" where half precision did not do
    promoted: tuple[str, ...]  # nodes that running the network made float32
    policy: int  # version of the precision policy
    psnr: float | None  # dB beside float32, executed on the CPU; None: nothing was changed

    @classmethod
    def _own_fields(cls, fields: JsonFields) -> dict[str, Any]:
        psnr = fields.values.get("psnr")
        return {
            "precision": fields.text("precision"),
            "promoted": tuple(fields.array("promoted")),
            "policy": fields.integer("policy"),
            "psnr": None if psnr is None else fields.number("psnr"),
        }
