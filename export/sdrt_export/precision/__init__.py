"""Which node computes in what: a float32 graph to half precision. Never imports torch."""
