"""What holds for all tests: examples are the same in every run, and the machine may be slow."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "northbund", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("northbund")
