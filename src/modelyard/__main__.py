"""`python -m modelyard` is `modelyard`."""

from modelyard.cli.main import run

if __name__ == "__main__":
    run()
