"""What the kernel's network is made of, as values. No I/O."""

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
