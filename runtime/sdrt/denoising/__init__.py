"""The model as samplers see it, and both ends of the loop."""
