"""Time, looked up when it is asked for: the defaults of whoever lets a test hand in a clock.

`time.time` itself as a default would be the function as it was at import, which a simulation that replaces the time of a
whole process does not reach.
"""

import time


def monotonic() -> float:
    """Seconds that only grow; they say nothing across processes."""
    return time.monotonic()


def now() -> float:
    """Unix seconds, which may jump."""
    return time.time()
