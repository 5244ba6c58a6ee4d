"""`benchmarks` lies at the root of the checkout and is installed by nobody."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
