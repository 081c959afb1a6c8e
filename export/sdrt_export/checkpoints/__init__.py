"""Checkpoints on disk or on the Hub, checked before anything is loaded. Never imports torch."""
