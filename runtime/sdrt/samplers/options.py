"""The options of schedulers in diffusers that change numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from sdrt.errors import SamplerError, nearest

BetaSchedule: TypeAlias = Literal[
    "linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"
]
PredictionType: TypeAlias = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]
Spacing: TypeAlias = Literal["linspace", "leading", "trailing"]


@dataclass(frozen=True)
class Options:
    """The contents of a `scheduler_config.json`, with the names of diffusers.

    The defaults are neutral: a scheduler without such an option behaves like this. If diffusers has
    another default for a scheduler, it is in that scheduler's `OPTIONS`.
    """

    # Training
    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: BetaSchedule = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: PredictionType = "epsilon"

    # Timesteps and sigmas
    timestep_spacing: Spacing = "linspace"
    steps_offset: int = 0
    timestep_type: Literal["discrete", "continuous"] = "discrete"
    interpolation_type: Literal["linear", "log_linear"] = "linear"
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_beta_sigmas: bool = False
    use_lu_lambdas: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"
    lambda_min_clipped: float = float("-inf")
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0

    # Flow matching
    shift: float = 1.0
    use_flow_sigmas: bool = False
    flow_shift: float = 1.0
    use_dynamic_shifting: bool = False
    time_shift_type: Literal["exponential", "linear"] = "exponential"
    base_shift: float | None = 0.5  # pipelines compute mu from these four
    max_shift: float | None = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    shift_terminal: float | None = None
    invert_sigmas: bool = False
    stochastic_sampling: bool = False

    # Limits on x0
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0

    # The solver
    set_alpha_to_one: bool = True
    skip_prk_steps: bool = False
    variance_type: str | None = None
    solver_order: int = 2
    algorithm_type: Literal[
        "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis"
    ] = "dpmsolver++"
    solver_type: Literal["midpoint", "heun", "logrho", "bh1", "bh2"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    predict_x0: bool = True
    disable_corrector: tuple[int, ...] = ()
    solver_p: None = None

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        _check_range("num_train_timesteps", self.num_train_timesteps, 2, 1_000_000)
        _check_range("solver_order", self.solver_order, 1, 3)
        _check_range(
            "original_inference_steps", self.original_inference_steps, 1, self.num_train_timesteps
        )
        spellings = [name for name in RESPACING if getattr(self, name)]
        if len(spellings) > 1:
            raise SamplerError(f"{' and '.join(spellings)} are both set: set one of them")
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise SamplerError(
                f"trained_betas: got {len(self.trained_betas)} values, "
                f"expected num_train_timesteps ({self.num_train_timesteps})"
            )


# What schedulers have in common
TRAINING = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
SPACING = ("timestep_spacing", "steps_offset")
RESPACING = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
LIMITS = ("sigma_min", "sigma_max")  # diffusers reads them from any config that has them
FLOW = ("use_flow_sigmas", "flow_shift", "use_dynamic_shifting", "time_shift_type")
THRESHOLDING = ("thresholding", "dynamic_thresholding_ratio", "sample_max_value")

_TYPES: Mapping[str, Any] = get_type_hints(Options)
_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Options)}
KNOWN = tuple(_DEFAULTS)


def defaults(*names: str, **own: Any) -> Mapping[str, Any]:
    """The options of a scheduler: these with their neutral defaults, and others with `own` ones."""
    return {name: _DEFAULTS[name] for name in names} | own


def check_known(given: Mapping[str, object]) -> None:
    """Raises `SamplerError` for an option that no scheduler here knows.

    Underscored names are diffusers' own.
    """
    for name in given:
        if name not in KNOWN and not name.startswith("_"):
            near = nearest(name, KNOWN)
            advice = f"did you mean '{near}'?" if near else "remove it if it has no effect"
            raise SamplerError(f"scheduler option {name!r} is unknown: {advice}")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SamplerError(f"{name}: got {value}, expected {low} to {high}")


def _checked(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`: JSON may have 1 for 1.0, null for false, and has lists for tuples."""
    if kind is bool and value is None:
        value = False
    if isinstance(value, list):
        value = tuple(value)
    if float in (kind, *get_args(kind)) and type(value) is int:
        value = float(value)
    if not _fits(value, kind):
        raise SamplerError(f"scheduler option {name}: got {value!r}, expected {_expected(kind)}")
    return value


def _fits(value: Any, kind: Any) -> bool:
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in choices
    if origin is UnionType:
        return any(_fits(value, choice) for choice in choices)
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(item, int | float) for item in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _expected(kind: Any) -> str:
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(choices)}"
    if origin is UnionType:
        return " or ".join(map(_expected, choices))
    if origin is tuple:
        return "a list of numbers"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a string"}.get(
        kind, "null"
    )
