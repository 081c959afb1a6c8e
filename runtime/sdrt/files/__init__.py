"""Atomic writes, locks, and JSON field by field. Knows nothing about bundles."""
