"""Put this folder on the path: the tests import `cases`, `mutations` and the `references` from it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
