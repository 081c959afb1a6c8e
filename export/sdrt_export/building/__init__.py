"""What targets need built: plans, half-precision and prepared graphs. Never imports torch."""
