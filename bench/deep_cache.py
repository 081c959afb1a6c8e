"""Measures DeepCache against forecasts: the deep feature of the UNet reused, on the demo model.

    python bench/deep_cache.py --shares-of BUNDLE [--rounds 5]
    python bench/deep_cache.py [--schedulers euler …] [--guidance 2 7.5] [--images 16]

A full call keeps what an up block takes from below. Shallow calls after it compute only the layers
near the UNet's input and output, and take that feature again
(Ma et al. 2023: https://arxiv.org/abs/2312.00858). The first command measures how long a shallow
call takes relative to a full one, with a bundle of Stable Diffusion 1.5 in OpenVINO. The second
appends a row for each sampler, guidance, split and choice of full calls: every N-th as in the
paper, or those of sdrt's forecasts. Its work, in full calls, is compared with the fewest calls of
forecasts, and of fewer steps, whose images are as near to the exact ones in the median and at the
5th percentile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product, starmap
from pathlib import Path

import numpy as np
import onnx
from forecast import SHARES
from forecast_images import TAIL, Pixels, Setting, nearness, psnr, run, scenes_of
from onnx.utils import Extractor
from recording import RESULTS, Measurement, alone_on_the_machine, record
from timed_runs import seconds

import sdrt
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.folder import Bundle
from sdrt.denoising.forecast_plan import METHODS, plan_of, smallest_budget
from sdrt.denoising.forecasting import ForecastPlan
from sdrt.targets.resolving import resolve
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array, Engine, FunctionEngine, engine_from_onnx, openvino_engine_from_onnx
from sdrt_engines.onnx_data_files import data_files_of
from sdrt_engines.packages import installed_versions
from sdrt_export.demo.grammar import Scene

BENCH, SHARE = "deep_cache", "of a full call"
# The skip connections that end in a shallow call: of the demo model's 6, of Stable Diffusion's 12.
# The last layer, the last up block, and that with the last layer of the block before.
SPLITS = {1: 1, 2: 3, 3: 4}
INTERVALS = (2, 3, 5)  # from one full call to the next


@dataclass(frozen=True)
class Split:
    """A UNet as two graphs: `full` also returns the deep feature, `shallow` takes it."""

    full: Path
    shallow: Path
    feature: str

    @classmethod
    def of(cls, network: Path, num_skips: int) -> Split:
        """Writes both next to the network, whose weights they read; the last `num_skips` skip
        connections end in `shallow`."""
        model = onnx.shape_inference.infer_shapes(onnx.load(network, load_external_data=False))
        feature = [node for node in model.graph.node if _joins_skip(node)][-num_skips].input[0]
        inputs, outputs = (
            [value.name for value in values] for values in (model.graph.input, model.graph.output)
        )
        full, shallow = (network.with_name(f"{kind} {num_skips}.onnx") for kind in ("full", "part"))
        extract = Extractor(model).extract_model
        onnx.save(extract(inputs, [*outputs, feature]), full)
        onnx.save(extract([*inputs, feature], outputs), shallow)
        return cls(full, shallow, feature)


def _joins_skip(node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat" and node.attribute[0].i == 1  # along channels


@contextmanager
def copied_denoiser(bundle: Bundle) -> Iterator[Path]:
    """A copy of the denoiser's graph and weights."""
    network = bundle.root / bundle.component(bundle.name_of("denoiser")).model
    with tempfile.TemporaryDirectory() as folder:
        for name in (network.name, *data_files_of(network)):
            shutil.copy(network.with_name(name), folder)
        yield Path(folder, network.name)


def shares(bundle: Bundle, rounds: int) -> Iterator[Measurement]:
    """The time of a shallow call relative to a full one, in turns."""
    feeds = seeded_inputs(bundle, bundle.name_of("denoiser"))
    opened = partial(openvino_engine_from_onnx, precision="bf16")
    with copied_denoiser(bundle) as network:
        for num_skips in SPLITS.values():
            split = Split.of(network, num_skips)
            with opened(split.full) as full, opened(split.shallow) as shallow:
                deep = {**feeds, split.feature: full.run(feeds)[split.feature]}
                shallow.run(deep)
                times = [(seconds(shallow, deep), seconds(full, feeds)) for _ in range(rounds)]
            yield Measurement(
                f"shallow call, {num_skips} skip connections, openvino:bf16",
                SHARE,
                tuple(of_shallow / of_full for of_shallow, of_full in times),
                versions(),
                {"skip connections": num_skips, "target": "openvino:bf16"},
            )


def recorded_shares() -> dict[int, float]:
    """The shares last measured, by the demo model's skip connections."""
    lines = (RESULTS / f"{BENCH}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["unit"] == SHARE]
    found = {row["notes"]["skip connections"]: row["median"] for row in rows}
    return {ours: found[theirs] for ours, theirs in SPLITS.items()}


class DeepCache:
    """A denoiser that runs in full for the calls that a plan asks for, in part for the others.

    The plan's method weighs the features of the full calls, as forecasts weigh predictions. All
    images of a batch are at the same call.
    """

    def __init__(self, full: Engine, shallow: Engine, feature: str, plan: ForecastPlan) -> None:
        self._full, self._shallow, self._feature, self._plan = full, shallow, feature, plan
        self._number = 0
        self._known: dict[float, Array] = {}  # features, by time

    def __call__(self, feeds: dict[str, Array]) -> Mapping[str, Array]:
        asked = self._plan.asked
        number, self._number = self._number, (self._number + 1) % len(asked)
        time = 1 - 2 * number / (len(asked) - 1)
        if number == 0:
            self._known.clear()
        if asked[number]:
            outputs = self._full.run(feeds)
            self._known[time] = outputs.pop(self._feature)
            return outputs
        weights = self._plan.method.weights(list(self._known), time).astype(np.float32)
        feature = np.tensordot(weights, np.stack(list(self._known.values())), 1)
        return self._shallow.run({**feeds, self._feature: feature})


@dataclass(frozen=True)
class Fidelity:
    """The work of a way to the images, in calls, and how near they are to the exact ones."""

    work: float
    median: float
    tail: float

    @classmethod
    def of(cls, work: float, values: Array) -> Fidelity:
        median, tail = np.percentile(values, (50, TAIL))
        return cls(work, float(median), float(tail))

    def least_work(self, others: Iterable[Fidelity], num_calls: int) -> float:
        """That of the others that are as near; all calls, if no other is."""
        near = (each for each in others if each.median >= self.median and each.tail >= self.tail)
        return min((each.work for each in near), default=num_calls)


@dataclass(frozen=True)
class Comparison:
    """A setting with the exact images of its scenes, and its rivals."""

    setting: Setting
    scenes: Sequence[Scene]
    exact: Pixels
    forecasts: Sequence[Fidelity]
    fewer: Sequence[Fidelity]

    @classmethod
    def of(cls, pipe: sdrt.Pipeline, setting: Setting, scenes: Sequence[Scene]) -> Comparison:
        n, exact = setting.num_steps, run(pipe, scenes, setting.options).pixels

        def fidelity(**options: int) -> Fidelity:
            got = run(pipe, scenes, setting.options | options)
            return Fidelity.of(float(np.mean(got.num_calls)), psnr(exact, got.pixels))

        forecasts = [fidelity(forecast=budget) for budget in range(smallest_budget(n), n)]
        fewer = [fidelity(num_inference_steps=steps) for steps in range(2, n)]
        return cls(setting, scenes, exact, forecasts, fewer)

    def measurement(self, what: str, got: Pixels, num_full: int, share: float) -> Measurement:
        """The row of images for which `num_full` calls were full."""
        n = self.setting.num_steps
        found = Fidelity.of(num_full + share * (n - num_full), psnr(self.exact, got))
        calls = {
            "forecasts' calls": found.least_work(self.forecasts, n),
            "fewer steps' calls": found.least_work(self.fewer, n),
        }
        notes = {
            "full calls": num_full,
            "work": found.work,
            **calls,
            "of forecasts'": found.work / calls["forecasts' calls"],
            "of the better rival's": found.work / min(calls.values()),
        }
        rounded = {name: round(value, 3) for name, value in notes.items()}
        name = f"{self.setting}, {what}"
        return nearness(name, self.scenes, self.exact, got, versions(), rounded)


def comparison(
    bundle: Bundle, splits: Mapping[int, Split], setting: Setting, num_images: int
) -> Iterator[Measurement]:
    """The rows of a sampler and guidance."""
    scenes, share_of = scenes_of(num_images, seed=4), recorded_shares()
    with sdrt.Pipeline.open(bundle.root, "cpu") as pipe:
        compared = Comparison.of(pipe, setting, scenes)
    for num_skips, split in splits.items():
        for name, plan in plans(setting, num_skips):
            got = images(bundle, split, plan, scenes, setting)
            what = f"{num_skips} skip connections, {name}"
            yield compared.measurement(what, got, sum(plan.asked), share_of[num_skips])


def images(
    bundle: Bundle, split: Split, plan: ForecastPlan, scenes: Sequence[Scene], setting: Setting
) -> Pixels:
    """The images of the scenes when the denoiser's calls follow the plan."""
    denoiser = bundle.name_of("denoiser")
    with engine_from_onnx(split.full) as full, engine_from_onnx(split.shallow) as shallow:
        function = DeepCache(full, shallow, split.feature, plan)
        engine = FunctionEngine(bundle.component(denoiser).signature, function)
        with sdrt.Pipeline(bundle, resolve(bundle, "cpu"), {denoiser: engine}) as pipe:
            return run(pipe, scenes, setting.options).pixels


def plans(setting: Setting, num_skips: int) -> Iterator[tuple[str, ForecastPlan]]:
    """Full calls at intervals and as forecasts choose them; features reused, or on a line through
    the last two, which breaks down for the features of higher layers."""
    n, guidance = setting.num_steps, setting.guidance_scale
    masks = {f"every {k}": tuple(number % k == 0 for number in range(n)) for k in INTERVALS}
    for budget in (round(share * n) for share in SHARES):
        plan = plan_of(setting.scheduler, n, budget, guidance, whole=True)
        masks[f"those of --forecast {budget}"] = plan.asked
    methods = ("reuse", "linear") if num_skips == max(SPLITS) else ("reuse",)
    for (name, asked), method in product(masks.items(), methods):
        yield f"{name}, {method}", ForecastPlan(asked, METHODS[method], np.inf)


def versions() -> dict[str, str]:
    return installed_versions("sdrt", "onnxruntime", "openvino", "onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shares-of", type=Path, metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--schedulers", nargs="+", default=("dpmpp_2m", "euler"))
    parser.add_argument("--guidance", type=float, nargs="+", default=[2, 7.5])
    parser.add_argument("--images", type=int, default=16)
    options = parser.parse_args()
    if options.shares_of is not None:
        with alone_on_the_machine():
            bundle = Bundle.open(options.shares_of)
            for row in shares(bundle, options.rounds):
                record(BENCH, [row])
        return
    bundle = Bundle.open(DEMO_FOLDER)
    with copied_denoiser(bundle) as network:
        splits = {num_skips: Split.of(network, num_skips) for num_skips in SPLITS}
        for setting in starmap(Setting, product(options.schedulers, (20,), options.guidance)):
            record(BENCH, [*comparison(bundle, splits, setting, options.images)])


if __name__ == "__main__":
    main()
