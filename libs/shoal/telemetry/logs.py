"""Logs: one JSON object a line on stderr, or text where a person is looking. `from shoal.telemetry.logs import log`.

    log.info("pods.bound", key=str(key), revision=revision, took_ms=14)

The event's name is constant, what varies is a field with its unit in its name. A field `traceparent` becomes
`trace_id`; without one it is that of the span around the call. A line that cannot be written is lost, never an error:
a process outlives whoever read its stderr.

`SHOAL_LOG` = json, text or auto (text on a terminal); `SHOAL_LOG_LEVEL` = debug, info (the default), warning, error.
"""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from shoal.telemetry.traceparent import current, trace_id

# structlog imports rich for its tracebacks where rich is installed: 150 ms and 7 MB in each process, for nothing.
_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _hidden:
        del sys.modules["rich"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FIRST = ("ts", "level", "event", "process", "trace_id")
KEYS_TOLD = 3

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def tell_written(event: str, keys: Sequence[str], *, revision: int, traceparent: str = "", **fields: Any) -> None:
    """One line for what was written at once, however much that is; every key at debug."""
    log.info(event, **fields, revision=revision, count=len(keys), keys=keys[:KEYS_TOLD], traceparent=traceparent)
    if len(keys) > KEYS_TOLD:
        log.debug(event, **fields, revision=revision, count=len(keys), keys=keys, traceparent=traceparent)


def configure(process: str, env: Mapping[str, str] = os.environ) -> None:
    """Call once, first thing in a process. Takes over what the standard library's `logging` warns of, too."""
    level = _LEVELS.get(env.get("SHOAL_LOG_LEVEL", "info").lower(), logging.INFO)
    form = env.get("SHOAL_LOG", "auto")
    readable = form == "text" or (form != "json" and _on_terminal())
    _configure(process, level, readable=readable)
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(level, logging.WARNING))


def _configure(process: str, level: int, *, readable: bool) -> None:
    def add_context(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["level"] = "error" if method == "exception" else method
        if process:
            event["process"] = process
        if found := trace_id(event.pop("traceparent", "") or current()):
            event["trace_id"] = found
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp" if readable else "ts"),
            add_context,
            *_renderers(readable=readable),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )


def _renderers(*, readable: bool) -> list[Any]:
    if readable:
        return [structlog.dev.ConsoleRenderer(colors=_on_terminal(), pad_event_to=24)]
    return [structlog.processors.StackInfoRenderer(), structlog.processors.format_exc_info, _to_json]


def _to_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    ordered = {k: event[k] for k in _FIRST if k in event}
    return msgspec.json.encode({**ordered, **event}, enc_hook=str)


def _on_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False


class _Stderr:
    """A sink that raises nothing; one write a line, so that processes that share a terminal do not mix."""

    def msg(self, line: str | bytes) -> None:
        data = line if isinstance(line, bytes) else line.encode("utf-8", "replace")
        with suppress(OSError):
            os.write(2, data + b"\n")

    debug = info = warning = error = critical = exception = msg


class _Bridge(logging.Handler):
    """What libraries tell `logging` (nats-py, asyncio's forgotten exceptions) comes out as everything else does."""

    def emit(self, record: logging.LogRecord) -> None:
        method = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            getattr(log, method)(record.getMessage(), logger=record.name, exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001  (logging must never end the work it tells of)
            self.handleError(record)


# Until `configure` is called (the CLI, tests): warnings and worse, readable, never on stdout.
_configure("", logging.WARNING, readable=True)
