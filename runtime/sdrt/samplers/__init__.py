"""Samplers: coroutines that turn noise into latents, and the schedules that they follow."""

from sdrt.errors import SamplerError
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.plan import Plan
from sdrt.samplers.protocol import Call, Sampler, Update, drive

__all__ = ["Call", "Plan", "Sampler", "SamplerConfig", "SamplerError", "Update", "drive"]
