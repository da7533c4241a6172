"""A property's time says nothing on a machine that does other work."""

from hypothesis import HealthCheck, settings

settings.register_profile("model", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("model")
