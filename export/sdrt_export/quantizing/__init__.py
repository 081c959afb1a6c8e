"""Denoisers in int8: calls recorded, ranges measured, layers rounded or left. Never torch."""
