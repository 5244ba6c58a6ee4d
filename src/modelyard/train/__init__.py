"""Recipe to table to fitted, evaluated, gated model."""
