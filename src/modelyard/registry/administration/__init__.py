"""The administration on the machine itself: every operation, done on the registry."""
