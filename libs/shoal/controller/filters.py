"""Filters of a watch: which keys they take, and which of several are enough. Pure."""

from collections.abc import Iterable


def takes(filter_: str, key: str) -> bool:
    """NATS' rule: `*` is one token, a last `>` is one or more. `key` may itself be a filter: then it must lie inside."""
    wanted, given = filter_.split("."), key.split(".")
    for i, part in enumerate(wanted):
        if part == ">":
            return len(given) > i
        if i >= len(given) or part not in ("*", given[i]) or given[i] == ">":
            return False
    return len(wanted) == len(given)


def widest(filters: Iterable[str]) -> tuple[str, ...]:
    """Without those that lie inside another: JetStream refuses a consumer whose filters overlap."""
    known = sorted(set(filters))
    return tuple(f for f in known if not any(f != other and takes(other, f) for other in known))
