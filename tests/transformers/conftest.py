"""The modules with the checks show what was compared, as test modules do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("case_checks", "dense_checks", "dense_oracle")
