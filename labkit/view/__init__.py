"""Table in, picture out."""
