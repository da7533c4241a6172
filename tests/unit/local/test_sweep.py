"""What is taken for ours, and what is not."""

from ipaddress import IPv4Network
from typing import Any

from shoal.local import sweep

CIDR = IPv4Network("10.208.0.0/12")


def link(name: str, *addresses: str) -> dict[str, Any]:
    return {"ifname": name, "addr_info": [{"local": a, "prefixlen": 23} for a in addresses]}


def test_a_bridge_is_ours_by_name_and_range() -> None:
    found = sweep.bridges(
        [
            link("shoal0a1b2c3d", "10.208.0.1"),
            link("shoal0a1b2c3e", "10.224.0.1"),  # another cluster's
            link("shoal-lab0", "10.208.2.1"),
            link("docker0", "10.208.4.1"),
            link("shoal0a1b2c3f"),
            {},
        ],
        CIDR,
    )

    assert found == ["shoal0a1b2c3d"]


def test_only_jumps_with_our_nodes_mark_are_removed() -> None:
    listing = """-P FORWARD DROP
-N SHOAL-0a1b2c3d
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -m comment --comment "shoal node vm-2" -j SHOAL-ffffffff
-A DOCKER-USER -m comment --comment "shoal node vm" -j SHOAL-0a1b2c3d
-A DOCKER-USER -m comment --comment "mine" -j ACCEPT
-A SHOAL-0a1b2c3d -i shoal0a1b2c3d -j ACCEPT
"""

    assert sweep.jumps(listing, "vm") == [
        (["-D", "DOCKER-USER", "-m", "comment", "--comment", "shoal node vm", "-j", "SHOAL-0a1b2c3d"], "SHOAL-0a1b2c3d")
    ]
