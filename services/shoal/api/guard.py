"""What arrives is made safe before anything else looks at it.

A token or a trace context ends up in subjects, keys and headers of our own making, which have more rights than whoever
sent it: what has no proper form goes no further.
"""

import re

import msgspec

from shoal.bus.rpc import Handler, Reply, Request
from shoal.errors import BadRequest

_CONTEXT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_NO_TOKEN = re.compile(r"[*>=\s\x00-\x1f]")


def context(traceparent: str) -> str:
    """The trace context, "" if it is none: a header's value with a line break in it would be two headers."""
    return traceparent if _CONTEXT.fullmatch(traceparent) else ""


def time(text: str, otherwise: str) -> str:
    return text if _TIME.fullmatch(text) else otherwise


def is_token(text: str) -> bool:
    """A name that can be a token of a subject or a key."""
    return not _NO_TOKEN.search(text)


def guarded(handler: Handler) -> Handler:
    """Raises: BadRequest for a subject whose tokens could be no names."""

    async def checked(request: Request) -> Reply:
        for token in request.tokens:
            if not is_token(token):
                raise BadRequest(f"{token[:64]!r} cannot be part of a subject")
        return await handler(msgspec.structs.replace(request, traceparent=context(request.traceparent)))

    return checked
