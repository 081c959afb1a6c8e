"""Models of torch behind flat signatures, and how they are loaded."""
