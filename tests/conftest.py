"""What tests of every kind may ask for."""

from hypothesis import settings

pytest_plugins = ["tests.postgres"]

# A machine that is busy is slow at times; how long an example takes says nothing of the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
