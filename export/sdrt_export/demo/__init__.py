"""The built-in demo model: a small Stable Diffusion of our own, drawn, trained and judged here."""
