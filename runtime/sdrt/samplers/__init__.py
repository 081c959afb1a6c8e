"""Samplers: coroutines that turn noise into latents, and the schedules that they follow."""

from sdrt.errors import SamplerError
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.protocol import Call, Sampler, Update, drive
from sdrt.samplers.schedule import Schedule

__all__ = ["Call", "Sampler", "SamplerConfig", "SamplerError", "Schedule", "Update", "drive"]
