"""A model in a process of its own, and how workers hand it their calls."""
