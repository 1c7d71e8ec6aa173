"""Toys of other folders, for models that are not embedded."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
for other in ("transformers", "pipelines"):
    sys.path.append(str(HERE.parent / other))
