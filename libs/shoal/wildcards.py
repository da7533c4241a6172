"""NATS' wildcards in subjects and keys. Pure."""


def covers(wide: str, narrow: str) -> bool:
    """Does `wide` take all that `narrow` does? `*` is one token, a last `>` one or more; `narrow` may be a filter, too."""
    wanted, given = wide.split("."), narrow.split(".")
    for i, part in enumerate(wanted):
        if part == ">":
            return len(given) > i
        if i >= len(given) or part not in ("*", given[i]) or given[i] == ">":
            return False
    return len(wanted) == len(given)
