"""The models that are served, each made anew by `python -m benchmarks.models.NAME FOLDER`."""
