"""How an image was made: written to and read from PNG, as A1111 text and as parameters."""
