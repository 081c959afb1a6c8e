"""Checkpoints in, bundles out. The only place where torch, diffusers and onnx are imported."""
