"""Results of the search for a network's precision, kept in the bundle.

`engines/precision/<component>-<half>-<key>.json`: valid for every target, until the network, its
family's rules or the search change.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES, Component, require_digest, sealed
from sdrt.errors import SdrtError
from sdrt.files.atomic import appearing_file
from sdrt.files.json_fields import JsonFields, within
from sdrt.targets.plan_record import KEY_LENGTH, onnx_digests
from sdrt_export.precision.check import PrecisionReport
from sdrt_export.precision.policy import POLICY_VERSION, HalfType, Precision


def known_precision(bundle: Bundle, component: Component, half: HalfType) -> PrecisionReport | None:
    """The recorded result, or None. A broken file counts as missing."""
    path = _path(bundle, component, half)
    if not path.is_file():
        return None
    try:
        with within(str(path)):
            fields = JsonFields.parse(path.read_bytes())
            require_digest(fields, "")
            return _report_from_fields(fields, half)
    except (OSError, SdrtError):
        return None


def remember_precision(
    bundle: Bundle, component: Component, half: HalfType, report: PrecisionReport
) -> None:
    fields = {
        "precision": report.precision,
        "promoted": list(report.promoted),
        "psnr": report.psnr if math.isfinite(report.psnr) else None,
        "reason": report.reason,
    }
    with appearing_file(_path(bundle, component, half)) as draft:
        draft.write_text(json.dumps(sealed(fields), indent=2) + "\n", encoding="utf-8")


def _path(bundle: Bundle, component: Component, half: HalfType) -> Path:
    digests = onnx_digests(bundle.root, component)
    made_of = [POLICY_VERSION, bundle.family.name, component.name, half, digests]
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]
    return bundle.root / ENGINES / "precision" / f"{component.name}-{half}-{key}.json"


def _report_from_fields(fields: JsonFields, half: HalfType) -> PrecisionReport:
    text = fields.text("precision")
    precision: Precision = "fp32" if text == "fp32" else half
    psnr = fields.values.get("psnr")
    return PrecisionReport(
        precision,
        fields.texts("promoted"),
        math.inf if psnr is None else fields.number("psnr"),
        fields.text("reason") if precision == "fp32" else None,
    )
