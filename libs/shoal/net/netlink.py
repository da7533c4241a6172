"""Route netlink by hand: a socket into the kernel, and one that hears of changes.

Why by hand: the usual library costs 13 MB in a process that may take 40, and two processes of every host would pay.
The kernel answers within the system call, so that a plain blocking socket is right; what may wait for the kernel's
one lock (plumbing.py) is called in a thread. messages.py has the wire format; links.py, addresses.py and routes.py have
what is said in it.
"""

import errno
import os
import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Interface
from typing import Self

from shoal.net import namespace
from shoal.net.addresses import RTM_GETADDR, all_addresses, read_address
from shoal.net.flows import CT_GET, all_flows, read_flow
from shoal.net.links import RTM_GETLINK, RTM_NEWLINK, Link, all_links, link_named, read_link
from shoal.net.messages import (
    ACK,
    DUMP,
    DUMP_INTERRUPTED,
    NLMSG_DONE,
    NLMSG_ERROR,
    REQUEST,
    Message,
    error_number,
    frame,
    frames,
)
from shoal.net.records import Flow, Route
from shoal.net.routes import RTM_GETROUTE, all_routes, read_route, read_way, way_to

_BUFFER_BYTES = 65_536
_AT_ONCE = 64  # messages in one packet: their answers must fit the socket's buffer, or the kernel drops some
_DUMP_TRIES = 8
_GROUPS = 0x1 | 0x10 | 0x40  # links, IPv4 addresses, IPv4 routes


class NetlinkError(OSError):
    """The kernel refused one message. `errno` says why, `what` which."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, f"{what}: {os.strerror(number)}")
        self.what = what


class Netlink:
    """One socket into one network namespace; it stays there whatever its user does later.

    `namespace_fd` None: the caller's own. `family`: NETLINK_NETFILTER for flows, and for nothing else. Threads may share
    one: each exchange has the socket to itself, or one would take the answers that another waits for.
    """

    def __init__(self, namespace_fd: int | None = None, *, family: int = socket.NETLINK_ROUTE) -> None:
        def opened() -> socket.socket:
            return _open(family=family)

        self._socket = namespace.call_in(namespace_fd, opened) if namespace_fd is not None else opened()
        self._sequence = 0
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """As `attempt`. Raises: NetlinkError of the first that was refused."""
        for refused in self.attempt(messages):
            if refused is not None:
                raise refused

    def attempt(self, messages: Sequence[Message]) -> list[NetlinkError | None]:
        """Carry the messages out in order; what the kernel said to each, None = done. Each is its own transaction:
        those after a refused one are carried out too.
        """
        with self._turn:
            return [
                said
                for start in range(0, len(messages), _AT_ONCE)
                for said in self._exchange(messages[start : start + _AT_ONCE])
            ]

    def _exchange(self, messages: Sequence[Message]) -> list[NetlinkError | None]:
        first = self._sequence + 1
        self._sequence += len(messages)
        numbered = enumerate(messages, first)
        self._socket.send(b"".join(frame(m.kind, m.flags | REQUEST | ACK, n, m.payload) for n, m in numbered))
        said: dict[int, NetlinkError | None] = {}
        while len(said) < len(messages):
            for _, sequence, kind, payload in frames(self._socket.recv(_BUFFER_BYTES)):
                if kind != NLMSG_ERROR or not first <= sequence <= self._sequence:
                    continue
                message, number = messages[sequence - first], error_number(payload)
                fine = number == 0 or number in message.ignore
                said[sequence] = None if fine else NetlinkError(number, message.what)
        return [said[n] for n in range(first, first + len(messages))]

    def links(self) -> list[Link]:
        return [read_link(payload) for payload in self._dump(RTM_GETLINK, all_links())]

    def link(self, name: str) -> Link | None:
        for kind, answer in self._ask(RTM_GETLINK, link_named(name)):
            if kind == RTM_NEWLINK:
                return read_link(answer)
            if kind == NLMSG_ERROR and (number := error_number(answer)) not in {0, errno.ENODEV}:
                raise NetlinkError(number, f"look for link {name}")
        return None

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """(link, address with its prefix length) of every IPv4 address."""
        found = (read_address(payload) for payload in self._dump(RTM_GETADDR, all_addresses()))
        return [address for address in found if address is not None]

    def routes(self, *, protocol: int | None = None, unreachable: bool = False) -> list[Route]:
        """IPv4 routes of the main table, of one routing protocol or of all. `unreachable`: also those that say that
        there is no way.
        """
        found = (read_route(payload) for payload in self._dump(RTM_GETROUTE, all_routes()))
        return [
            r for r in found if r is not None and protocol in {None, r.protocol} and (unreachable or not r.unreachable)
        ]

    def route_to(self, address: str) -> tuple[str, int]:
        """(own source address, link) by which the kernel would reach `address`. Raises: NetlinkError (unreachable)."""
        for kind, answer in self._ask(RTM_GETROUTE, way_to(address)):
            if kind == NLMSG_ERROR:
                raise NetlinkError(error_number(answer), f"look for a route to {address}")
            return read_way(answer)
        raise NetlinkError(errno.ENETUNREACH, f"look for a route to {address}")

    def flows(self, protocol: int) -> list[Flow]:
        """What conntrack remembers of one protocol. Raises: OSError where the kernel has none."""
        found = (read_flow(payload) for payload in self._dump(CT_GET, all_flows()))
        return [flow for flow in found if flow is not None and flow.protocol == protocol]

    def _ask(self, kind: int, payload: bytes) -> list[tuple[int, bytes]]:
        """(kind, payload) of the answers to a question that one packet answers."""
        with self._turn:
            self._sequence += 1
            self._socket.send(frame(kind, REQUEST, self._sequence, payload))
            while True:  # what an exchange that broke off has left comes first
                answers = frames(self._socket.recv(_BUFFER_BYTES))
                if found := [(k, answer) for _, sequence, k, answer in answers if sequence == self._sequence]:
                    return found

    def _dump(self, kind: int, payload: bytes) -> list[bytes]:
        """A list that changed while it was told may lack what was there all the time: it is asked for again."""
        with self._turn:
            for _ in range(_DUMP_TRIES):
                found, whole = self._dump_once(kind, payload)
                if whole:
                    break
            return found

    def _dump_once(self, kind: int, payload: bytes) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        whole = True
        self._sequence += 1
        self._socket.send(frame(kind, REQUEST | DUMP, self._sequence, payload))
        while True:
            for flags, sequence, answered, answer in frames(self._socket.recv(_BUFFER_BYTES)):
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & DUMP_INTERRUPTED
                if answered in {NLMSG_DONE, NLMSG_ERROR}:
                    if number := error_number(answer):
                        raise NetlinkError(number, "list")
                    return found, whole
                found.append(answer)


class Monitor:
    """Tells that links, addresses or routes changed. Not what: whoever hears it looks."""

    def __init__(self) -> None:
        self._socket = _open(_GROUPS)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Read what has been told. What did not fit the buffer is lost, which says the same."""
        while True:
            try:
                self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        self._socket.close()


def _open(groups: int = 0, *, family: int = socket.NETLINK_ROUTE) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    opened.bind((0, groups))
    return opened
