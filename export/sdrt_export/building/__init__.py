"""Builds the files that targets need: plans, half-precision and prepared graphs. Never torch."""
