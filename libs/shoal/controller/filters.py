"""Filters of a watch: which keys they take. Pure."""


def takes(filter_: str, key: str) -> bool:
    """NATS' rule: `*` is one token, a last `>` is one or more. `key` may itself be a filter: then it must lie inside."""
    wanted, given = filter_.split("."), key.split(".")
    for i, part in enumerate(wanted):
        if part == ">":
            return len(given) > i
        if i >= len(given) or part not in ("*", given[i]) or given[i] == ">":
            return False
    return len(wanted) == len(given)
