"""A typed graph with the fused operators of ONNX Runtime's CUDA kernels."""
