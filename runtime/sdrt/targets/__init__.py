"""How a component runs on a target (ONNX network, prepared graph or plans), how it is opened, and
what `auto` takes."""
