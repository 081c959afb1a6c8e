"""The original layout of checkpoints, that of ldm and sgm: its keys, by diffusers' names."""
