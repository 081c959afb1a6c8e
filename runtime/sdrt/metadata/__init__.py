"""Records of how an image was made: in PNGs, as A1111 text and as parameters."""
