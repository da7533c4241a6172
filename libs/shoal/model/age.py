"""Times as the wire has them (RFC 3339, UTC), and ages as kubectl prints them."""

import datetime as dt

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 31_536_000


def parse_time(text: str) -> dt.datetime:
    """Raises: ValueError."""
    return dt.datetime.fromisoformat(text)


def format_time(time: dt.datetime) -> str:
    """Whole seconds: 2026-01-31T12:00:00Z."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(since: str | None, now: dt.datetime) -> str:
    """`<unknown>` where there is no time, or none that can be read."""
    try:
        return human((now - parse_time(since)).total_seconds()) if since else "<unknown>"
    except ValueError:
        return "<unknown>"


def human(seconds: float) -> str:
    """About three digits: `90s`, `5m30s`, `3h20m`, `2d4h`, `400d`. The steps are kubectl's (duration.HumanDuration)."""
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole >= -1 else "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole // _MINUTE, "m", whole % _MINUTE, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole // _HOUR, "h", whole // _MINUTE % 60, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole // _DAY, "d", whole // _HOUR % 24, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole // _YEAR, "y", whole // _DAY % 365, "d")
    return f"{whole // _YEAR}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
