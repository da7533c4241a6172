"""What went wrong, as sentences for a person."""

import re
from collections.abc import Iterator

from shoal.errors import NotFound, ShoalError, Status, from_status

EXTRAS = {"cyclopts": "cli", "yaml": "cli", "aiodocker": "node", "aiohttp": "node"}  # what a module is part of


class Failed(ShoalError):
    """A verb that did part of its work, and has said what failed: nothing is left to say (`sentences` gives none)."""

    def __init__(self) -> None:
        super().__init__("")


def sentences(error: BaseException) -> Iterator[str]:
    """One for each thing that is wrong; a group of errors (of tasks) is each of them, once."""
    yield from dict.fromkeys(_sentences(error))


def _sentences(error: BaseException) -> Iterator[str]:
    match error:
        case BaseExceptionGroup():
            for inner in error.exceptions:
                yield from _sentences(inner)
        case ShoalError():
            yield from (line + _how(error) for line in str(error).splitlines() if line.strip())
        case FileNotFoundError() | PermissionError() | IsADirectoryError() | NotADirectoryError():
            yield f"{error.filename}: {(error.strerror or 'cannot be read').lower()}"
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in EXTRAS:
            yield f"{name} is not there: install shoal[{EXTRAS[name.partition('.')[0]]}]"
        case UnicodeDecodeError():
            yield f"what was read is not text in UTF-8: {error.reason}"
        case _:
            what = str(error).strip().splitlines()
            yield (
                f"unexpected {type(error).__name__}{f': {what[0]}' if what else ''}"
                " (this is a defect of shoal; --debug shows where)"
            )


def of_status(status: Status) -> str:
    """The sentence of an error that came as part of a reply."""
    error = from_status(status)
    return str(error) + _how(error)


def _how(error: ShoalError) -> str:
    """What to do about it, where the api cannot know that it is this command that asks."""
    if isinstance(error, NotFound) and error.path == "metadata.namespace" and not error.hint:
        missing = re.search(r'namespaces "([^"]+)" not found', error.message)
        return f" (`shoal create namespace {missing[1]}` makes it)" if missing else ""
    return ""
