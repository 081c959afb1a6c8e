"""Every network of a target compared with the CPU."""
