"""Values, ports, errors and configuration; imports numpy and the standard library only."""
