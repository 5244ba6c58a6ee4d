"""A fitted model or a file in, a bundle out."""
