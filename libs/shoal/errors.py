"""The one tree of errors, and the form in which an error crosses NATS.

The class says what a caller may do; the sentence is for a person; the path names the field. An adapter (bus,
store, engine) translates a foreign exception into one of these exactly once, and nobody matches on text.

    ShoalError
    ├── Refused               give up: the request itself is wrong or not allowed
    │   ├── Invalid           422  a field is wrong: `path` and `hint` say which and what was meant
    │   ├── BadRequest        400  the request cannot be read at all
    │   ├── Forbidden         403
    │   ├── NotFound          404
    │   ├── AlreadyExists     409
    │   ├── Expired           410  the revision asked for is no longer known: list again
    │   └── TooLarge          413
    ├── Retryable             the same request may pass later
    │   ├── Conflict          409  somebody wrote first: read again, decide again, never force
    │   ├── Unavailable       503  NATS, the api or an engine does not answer
    │   │   └── Unanswered         nobody listens on the subject of the request (never crosses NATS)
    │   └── Overloaded        429
    └── Deposed               this process leads no more: stop deciding (never crosses NATS)
"""

from typing import ClassVar

import msgspec


class ShoalError(Exception):
    """Base. `code` and `reason` are Kubernetes' (HTTP status and Status.reason), for the gateway's sake."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = str(path)  # a plain one: `model.problem.Path` cannot be encoded
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path and self.path not in self.message else ""  # many problems name their own
        what = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{what}"


def only_error(group: BaseExceptionGroup[BaseException]) -> ShoalError | None:
    """The one error of ours that ended a process, if that is all there was."""
    ours, others = group.split(ShoalError)
    found: BaseException | None = None if others is not None else ours
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, ShoalError) else None


def first_sentence(error: BaseException) -> str:
    """What went wrong, for a person: of a task group the first error in it, not that there was one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


class Refused(ShoalError):
    code = 400
    reason = "BadRequest"


class BadRequest(Refused):
    pass


class Invalid(Refused):
    code = 422
    reason = "Invalid"


class Forbidden(Refused):
    code = 403
    reason = "Forbidden"


class NotFound(Refused):
    code = 404
    reason = "NotFound"


class AlreadyExists(Refused):
    code = 409
    reason = "AlreadyExists"


class Expired(Refused):
    code = 410
    reason = "Expired"


class TooLarge(Refused):
    code = 413
    reason = "RequestEntityTooLarge"


class Retryable(ShoalError):
    code = 503
    reason = "ServiceUnavailable"


class Conflict(Retryable):
    """`key` is the entry that changed since it was read, "" where the server did not say."""

    code = 409
    reason = "Conflict"

    def __init__(self, message: str, *, key: str = "", path: str = "", hint: str = "") -> None:
        super().__init__(message, path=path, hint=hint)
        self.key = key


class Unavailable(Retryable):
    pass


class Unanswered(Unavailable):
    """Nobody took the request: nobody listens on its subject. Known at once, and nothing was done."""


class Overloaded(Retryable):
    code = 429
    reason = "TooManyRequests"


class Deposed(ShoalError):
    """The fence of this leader was refused: another process leads."""


_BY_REASON: dict[str, type[ShoalError]] = {
    c.reason: c
    for c in (
        BadRequest,
        Invalid,
        Forbidden,
        NotFound,
        AlreadyExists,
        Expired,
        TooLarge,
        Conflict,
        Unavailable,
        Overloaded,
    )
}


class StatusDetails(msgspec.Struct, omit_defaults=True, kw_only=True):
    path: str = ""
    hint: str = ""


class Status(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An error on the wire: Kubernetes' `v1/Status`, so that a gateway passes it on as it is."""

    kind: str = "Status"
    apiVersion: str = "v1"  # noqa: N815  (wire name)
    status: str = "Failure"
    message: str
    reason: str
    code: int
    details: StatusDetails = msgspec.field(default_factory=StatusDetails)


def to_status(error: ShoalError) -> Status:
    return Status(
        message=error.message,
        reason=error.reason,
        code=error.code,
        details=StatusDetails(path=error.path, hint=error.hint),
    )


def is_retryable(status: Status) -> bool:
    """Whether asking again may help. After an internal error it may: the other side's trouble passes."""
    return status.reason == "InternalError" or isinstance(from_status(status), Retryable)


def from_status(status: Status) -> ShoalError:
    kind = _BY_REASON.get(status.reason, ShoalError)
    return kind(status.message, path=status.details.path, hint=status.details.hint)
