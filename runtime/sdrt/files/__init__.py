"""Atomic writes, locks, JSON field by field, the cache folder. Knows nothing about bundles."""
