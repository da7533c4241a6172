"""Lists in pieces that fit a message. Pure.

A page is cut from the state as it is when it is asked for, and carries the revision of the first page: what changed
between two pages shows in a watch from there. So a list and the watch after it end right, as they do in Kubernetes.
"""

import base64
from collections.abc import Iterable

import msgspec

from shoal.errors import BadRequest


class Token(msgspec.Struct, frozen=True):
    """`after`: the place of the last object of the page before."""

    revision: int
    after: str


class Page(msgspec.Struct, frozen=True):
    bodies: list[bytes]
    last: str
    more: bool


def page(found: Iterable[tuple[str, bytes]], limit: int, size_max: int) -> Page:
    """`found`: (place, body) in order of place. At least one object, however large."""
    bodies: list[bytes] = []
    last, size = "", 0
    for place, body in found:
        size += len(body) + 1
        if bodies and (size > size_max or (limit > 0 and len(bodies) >= limit)):
            return Page(bodies, last, more=True)
        bodies.append(body)
        last = place
    return Page(bodies, last, more=False)


def write_token(revision: int, after: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(Token(revision, after))).decode()


def read_token(text: str) -> Token | None:
    """Raises: BadRequest."""
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=Token)
    except (ValueError, msgspec.MsgspecError):
        raise BadRequest("the continue token cannot be read: list again", path="continue") from None
