"""What makes SD1, SDXL, SD3: data that the runtime reads and never tests for."""
