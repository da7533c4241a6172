"""What a shell evaluates to reach a cluster of this machine: `eval "$(shoal env)"`, `eval "$(shoal lab env h1)"`.

One after the other in the same shell must leave what the second alone would have left, so what the first set and the
second does not set is unset. What the user set himself stays: only a value that points at something of ours is taken back.
"""

import shlex
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shoal.local import lab_files, machine
from shoal.local.ranges import LAB_SPACE

VARIABLES = ("NATS_URL", "DOCKER_HOST", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """`directories`: engines' sockets of ours lie below. `urls`: of servers of ours."""

    directories: tuple[Path, ...]
    urls: frozenset[str] = frozenset()

    def owns(self, value: str) -> bool:
        """A lab's addresses are recognized without its record: it may be down by now."""
        if value.startswith("unix://"):
            path = Path(value.removeprefix("unix://"))
            return any(path.is_relative_to(directory) for directory in self.directories)
        return value in self.urls or _in_a_lab(value)


def _in_a_lab(url: str) -> bool:
    try:
        address = IPv4Address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return any(address in IPv4Network(space) for space in LAB_SPACE)


def lines(wanted: Mapping[str, str], present: Mapping[str, str], ours: Ours) -> Iterable[str]:
    """`export` for what is wanted, `unset` for what is ours and not wanted. `present`: the shell's environment."""
    for name in VARIABLES:
        if name not in wanted and ours.owns(present.get(name, "")):
            yield f"unset {name}"
    for name, value in wanted.items():
        yield f"export {name}={shlex.quote(value)}"


def ours() -> Ours:
    """By the records of this machine."""
    urls: set[str] = set()
    record = machine.read_record()
    if record is not None:
        urls |= {f"nats://{machine.HOST}:{record.port}", *([record.jaeger.otlp_endpoint] if record.jaeger else ())}
    return Ours(directories=(machine.home(), lab_files.base()), urls=frozenset(urls))
