"""The toy pipelines of tests/explain."""

from tests.explain.conftest import make, prompt, settings  # noqa: F401  # fixtures
