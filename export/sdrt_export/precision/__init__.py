"""The precision of each node: a float32 graph to half precision. Never imports torch."""
