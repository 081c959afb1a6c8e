"""Samplers: coroutines that turn noise into latents, and the schedules that they follow."""
