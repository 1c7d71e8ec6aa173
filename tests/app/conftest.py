"""The fixtures of this folder."""

from conftest_app import picture, pipelines, serve  # noqa: F401  # fixtures
