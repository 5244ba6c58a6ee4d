"""`modelyard demo`: stub."""


def demo() -> None:
    """Train, publish, serve, call, deploy a second version, roll back."""
