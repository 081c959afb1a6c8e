"""The tensors of a layer of a LoRA file to what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sdrt.adapters.lora_layers import (
    DAMAGED,
    Hadamard,
    Kronecker,
    LayerDelta,
    LowRank,
    Magnitude,
    StoredTensor,
    Update,
    Whole,
)
from sdrt.errors import FileError, quoted

Roles: TypeAlias = Mapping[str, StoredTensor]  # the tensors of a layer by their roles
Ratio: TypeAlias = Callable[[int], float]  # the factor of a layer of that rank


@dataclass(frozen=True)
class Layout:
    """The tensors that a kind of layer consists of, and the matrix that they are."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    update: Callable[[Roles], Update]

    def fits(self, roles: Roles) -> bool:
        return {*self.required} <= {*roles} <= {*self.required, *self.optional}


def _low_rank(roles: Roles) -> LowRank:
    return LowRank(roles["up"], roles["down"], roles.get("mid"))


def _hadamard(roles: Roles) -> Hadamard:
    first, second = (
        LowRank(
            roles[f"hada_w{n}_a"],
            roles[f"hada_w{n}_b"],
            core=roles.get(f"hada_t{n}"),
            transposed=f"hada_t{n}" in roles,
        )
        for n in (1, 2)
    )
    return Hadamard(first, second)


def _kronecker(roles: Roles) -> Kronecker:
    return Kronecker(_factor(roles, "lokr_w1"), _factor(roles, "lokr_w2", roles.get("lokr_t2")))


def _factor(roles: Roles, name: str, core: StoredTensor | None = None) -> Update:
    if name in roles:
        return Whole(roles[name])
    return LowRank(roles[f"{name}_a"], roles[f"{name}_b"], core, transposed=core is not None)


_HADA = tuple(f"hada_w{n}_{side}" for n in (1, 2) for side in "ab")
_ANY = ("alpha", "dora_scale")
_LAYOUTS = (
    Layout(("down", "up"), (*_ANY, "mid", "magnitude", "up_bias"), _low_rank),
    Layout(_HADA, _ANY, _hadamard),
    Layout((*_HADA, "hada_t1", "hada_t2"), _ANY, _hadamard),
    Layout(("lokr_w1", "lokr_w2"), _ANY, _kronecker),
    Layout(("lokr_w1_a", "lokr_w1_b", "lokr_w2"), _ANY, _kronecker),
    Layout(("lokr_w1", "lokr_w2_a", "lokr_w2_b"), (*_ANY, "lokr_t2"), _kronecker),
    Layout(("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"), (*_ANY, "lokr_t2"), _kronecker),
)
_OF_WEIGHT = ("diff", "w_norm")
_OF_BIAS = ("diff_b", "b_norm")


def deltas_from_roles(layer: str, roles: Roles, ratio: Ratio) -> dict[str, LayerDelta]:
    """The changes of a layer's "weight" and "bias" by its tensors.

    FileError if one is missing, or their sizes do not fit each other.
    """
    deltas = [
        (kind, LayerDelta(Whole(roles[role])))
        for kind, differences in (("weight", _OF_WEIGHT), ("bias", _OF_BIAS))
        for role in differences
        if role in roles
    ]
    rest = {role: roles[role] for role in roles if role not in (*_OF_WEIGHT, *_OF_BIAS)}
    layout = next((layout for layout in _LAYOUTS if layout.fits(rest)), None)
    if layout is not None:
        deltas += _deltas_of(layout.update(rest), rest, ratio)
    if (layout is None and rest) or len(dict(deltas)) < len(deltas):
        path = next(iter(roles.values())).file.path
        raise FileError(
            f"{path}: the layer {quoted(layer)} has {', '.join(sorted(roles))}, which is not a "
            f"complete LoRA, LoHa or LoKr: {DAMAGED}"
        )
    return dict(deltas)


def _deltas_of(update: Update, roles: Roles, ratio: Ratio) -> Iterator[tuple[str, LayerDelta]]:
    factor = 1.0 if update.rank is None else ratio(update.rank)
    yield "weight", LayerDelta(update, factor, _magnitude(roles))
    if "up_bias" in roles:
        yield "bias", LayerDelta(Whole(roles["up_bias"]), factor)


def _magnitude(roles: Roles) -> Magnitude | None:
    if "magnitude" in roles:
        return Magnitude(roles["magnitude"])
    if "dora_scale" not in roles:
        return None
    scale = roles["dora_scale"]
    return Magnitude(scale, of_inputs=scale.rows == 1, fades=True)
