"""The same examples in every run, and none is too slow on a busy machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "bloodcell",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("bloodcell")
