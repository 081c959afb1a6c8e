"""Denoisers in int8: calls recorded, ranges measured, layers quantized or left alone. Never torch."""
