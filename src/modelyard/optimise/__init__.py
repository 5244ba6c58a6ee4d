"""Bundle-to-bundle changes with a parity report."""
