"""HTTP: the Open Inference Protocol v2, the v1 and plain row contracts."""
