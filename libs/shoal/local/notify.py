"""sd_notify in a few lines: how a process tells its supervisor (ours, or systemd) that it is ready.

A datagram to the unix socket that `NOTIFY_SOCKET` names. Without one, and if nobody listens, nothing happens: a
process never fails because of who watches it. Source: sd_notify(3).
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(state: str = READY, env: Mapping[str, str] = os.environ) -> bool:
    """Send `state`; True if somebody took it."""
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), address)
        return True
    return False


def ready() -> bool:
    return notify(READY)
