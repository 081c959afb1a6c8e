"""A network to an ONNX file: traced, folded, compared."""
