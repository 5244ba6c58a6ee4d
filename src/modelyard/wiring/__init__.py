"""The only place that names concrete classes: a configuration becomes a running system."""
