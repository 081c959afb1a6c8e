"""The differences of SD1, SDXL and SD3, as data that the runtime reads and never tests for."""
