"""Input images: read, framed, masked, annotated."""
