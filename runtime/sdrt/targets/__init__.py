"""How a component runs on a target (ONNX network, prepared graph or plans); opens it."""
