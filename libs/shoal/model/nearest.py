"""The nearest known name to what somebody wrote."""

from collections.abc import Iterable

LENGTH_MAX = 100  # no known name is near a longer one


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Case is forgiven (`hostpath` → `hostPath`); None if nothing is near."""
    if len(name) > LENGTH_MAX:
        return None
    import difflib  # a refusal alone needs it

    words: dict[str, str] = {}
    for word in known:
        words.setdefault(word.lower(), word)
    found = difflib.get_close_matches(name.lower(), words, n=1, cutoff=0.6)
    return words[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint, or ""."""
    word = nearest(name, known)
    return f"did you mean {word}?" if word else ""
