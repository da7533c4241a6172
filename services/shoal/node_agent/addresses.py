"""Which pod has which address of this node's range. Pure; `kept_addresses.py` keeps it on disk.

The first address of the range is the bridge's. Addresses are given out in turn, so that one that was just freed rests
as long as the range is large: neighbours' caches and connections of its last pod have ended by then.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from shoal.errors import ShoalError


class Exhausted(ShoalError):
    """No address of the node's range is free."""


class _File(msgspec.Struct):
    cidr: str
    last: int = 0
    pods: dict[str, str] = {}


class Addresses:
    """By pod uid. `version` counts the changes. `kept`: what `content` was of an earlier one."""

    def __init__(self, cidr: str, kept: bytes = b"") -> None:
        self.network = IPv4Network(cidr)
        if self.network.prefixlen > 30:
            raise ShoalError(f"a pod range of {cidr} has no room for a pod")
        self.version = 0
        self._last = 0
        self._of: dict[str, IPv4Address] = {}
        self._read(kept)

    @property
    def gateway(self) -> IPv4Interface:
        return IPv4Interface((self.network.network_address + 1, self.network.prefixlen))

    @property
    def size(self) -> int:
        """How many pods can have an address: all but network, bridge and broadcast."""
        return self.network.num_addresses - 3

    def of(self, uid: str) -> IPv4Address | None:
        return self._of.get(uid)

    def interface(self, uid: str) -> IPv4Interface:
        """Raises: KeyError for a pod without an address."""
        return IPv4Interface((self._of[uid], self.network.prefixlen))

    def give(self, uid: str) -> IPv4Address:
        """The pod's address; a new one if it has none. Raises: Exhausted."""
        if (known := self._of.get(uid)) is not None:
            return known
        taken = set(self._of.values())
        for step in range(self.size):
            number = (self._last + step) % self.size
            address = self.network.network_address + 2 + number
            if address not in taken:
                self._of[uid] = address
                self._last = number + 1
                self.version += 1
                return address
        raise Exhausted(f"all {self.size} addresses of this node's range {self.network} are in use")

    def adopt(self, uid: str, text: str) -> bool:
        """Its sandbox says that the pod has this address; what the file knows already stays. False: it is another's."""
        if uid in self._of:
            return True
        try:
            address = IPv4Address(text)
        except ValueError:
            return False
        number = int(address) - int(self.network.network_address) - 2
        if not 0 <= number < self.size or address in self._of.values():
            return False
        self._of[uid] = address
        self._last = max(self._last, number + 1)
        self.version += 1
        return True

    def free(self, uid: str) -> None:
        if self._of.pop(uid, None) is not None:
            self.version += 1

    def keep_only(self, uids: Collection[str]) -> tuple[str, ...]:
        """Free what belongs to none of these pods; the uids that lost theirs."""
        lost = tuple(sorted(uid for uid in self._of if uid not in uids))
        for uid in lost:
            del self._of[uid]
        if lost:
            self.version += 1
        return lost

    def content(self) -> bytes:
        return msgspec.json.encode(
            _File(str(self.network), self._last, {uid: str(a) for uid, a in sorted(self._of.items())})
        )

    def _read(self, kept: bytes) -> None:
        """What cannot be read, or is of another range, counts as nothing: sandboxes tell the rest (`adopt`)."""
        try:
            known = msgspec.json.decode(kept, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if known.cidr != str(self.network):
            return
        self._last = known.last
        for uid, text in known.pods.items():
            try:
                address = IPv4Address(text)
            except ValueError:
                continue
            if address in self.network and address not in self._of.values():
                self._of[uid] = address
