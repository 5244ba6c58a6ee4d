"""A fitted model, or a file with one, becomes a bundle."""
