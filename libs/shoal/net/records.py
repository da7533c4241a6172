"""What the kernel's network is made of, as values. No I/O."""

from ipaddress import IPv4Address

import msgspec

SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
PROTOCOL_SHOAL = 83  # marks the routes that are ours; free in rt_protos and in the usual routing daemons


class Route(msgspec.Struct, frozen=True):
    """`gateway` "" is a route on the link itself."""

    destination: str  # CIDR; 0.0.0.0/0 is the default
    gateway: str
    link: int
    protocol: int
    scope: int = SCOPE_UNIVERSE
    unreachable: bool = False  # a blackhole, or what else answers instead of forwarding


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What conntrack remembers: who began it and whom it meant, and who answers, which NAT may have chosen."""

    protocol: int
    source: IPv4Address
    source_port: int
    target: IPv4Address
    target_port: int
    answers: IPv4Address
    answers_port: int
    id: bytes = b""  # the kernel's own
    zone: bytes = b""
