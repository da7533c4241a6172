"""The logger of modules that a command line imports: structlog (45 ms) comes with the first line that is logged.

    from shoal.telemetry.lazy import log

It is `telemetry.logs.log` in all else.
"""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class _Lazy:
    def __init__(self) -> None:
        self.silent = False

    def __getattr__(self, method: str) -> Any:
        if self.silent:
            return _nothing
        from shoal.telemetry.logs import log as real

        return getattr(real, method)


def _nothing(*_args: object, **_fields: object) -> None:
    pass


_lazy = _Lazy()
log = cast("FilteringBoundLogger", _lazy)


def silence() -> None:
    """For a program that tells a person itself what goes wrong: nothing is logged from here on."""
    _lazy.silent = True
