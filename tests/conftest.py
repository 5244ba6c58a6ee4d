"""What tests of every kind may ask for."""

pytest_plugins = ["tests.postgres"]
