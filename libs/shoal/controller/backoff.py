"""How long to wait after a failure: full jitter, doubled each time, bounded. Randomness is handed in.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter": of the variants tried there, full jitter makes the
fewest calls in the least time.
"""

from collections.abc import Callable, Hashable


def ceiling_s(failures: int, *, base_s: float, bound_s: float) -> float:
    """The longest wait after the `failures`-th failure in a row (1-based). Raises: ValueError if it is below 1."""
    if failures < 1:
        raise ValueError("failures counts from 1")
    return min(bound_s, base_s * 2.0 ** min(failures - 1, 30))


class Backoff:
    """Counts failures a key. `random` answers a float in [0, 1)."""

    def __init__(self, random: Callable[[], float], *, base_s: float = 0.05, bound_s: float = 30.0) -> None:
        self._random = random
        self._base_s = base_s
        self._bound_s = bound_s
        self._failures: dict[Hashable, int] = {}

    def failed(self, key: Hashable) -> float:
        """Count one more failure; seconds to wait now, of [0, bound)."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return self._random() * ceiling_s(failures, base_s=self._base_s, bound_s=self._bound_s)

    def succeeded(self, key: Hashable) -> None:
        self._failures.pop(key, None)

    def failures(self, key: Hashable) -> int:
        return self._failures.get(key, 0)
