"""A model in a faster, safer format, with the proof that it still gives the same answers."""
