"""Payload capture: which calls are kept, what of them, and how they get out of the way."""
