"""W3C `traceparent` strings: what they look like, and the one around the caller. Imported by traces and by logs alike."""

import os
import re
from contextvars import ContextVar

# A later version may add fields: they are not handed on, since what a stranger sent ends up in our headers.
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
CURRENT: ContextVar[str] = ContextVar("traceparent", default="")


def new_traceparent() -> str:
    """A trace that nobody has recorded yet, marked as sampled: whoever records, shall."""
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


def trace_id(traceparent: str) -> str:
    """The 32 digits by which Jaeger finds it; "" for what is no traceparent."""
    found = TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""


def current() -> str:
    """The traceparent of the innermost `with span(...)` around the caller; "" outside of any. For logs."""
    return CURRENT.get()
