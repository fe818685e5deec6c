"""The small classifier that the tests of models have."""

from tests.models.conftest import fit, loader  # noqa: F401 - fixtures
