import itertools
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import Unavailable
from shoal.local import ranges

NETWORKS = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
)


def test_the_first_range_is_taken_if_nothing_is_in_its_way() -> None:
    assert ranges.pick(ranges.CLUSTER_CANDIDATES, []) == (IPv4Network("10.208.0.0/12"), [])


def test_the_next_is_taken_and_the_reason_told() -> None:
    network, reasons = ranges.pick(ranges.CLUSTER_CANDIDATES, [IPv4Network("10.212.4.0/24")])

    assert network == IPv4Network("10.224.0.0/12")
    assert reasons == ["10.208.0.0/12 overlaps 10.212.4.0/24, which this machine uses"]


def test_a_range_inside_a_bigger_route_overlaps() -> None:
    network, _ = ranges.pick(ranges.CLUSTER_CANDIDATES, [IPv4Network("10.0.0.0/8")])

    assert network == IPv4Network("172.16.0.0/12")


def test_when_all_overlap_one_sentence_says_so() -> None:
    with pytest.raises(Unavailable, match=r"no free address range is left: 10\.0\.0\.0/8 overlaps"):
        ranges.pick(["10.0.0.0/8"], [IPv4Network("10.1.0.0/16")])


@given(st.lists(NETWORKS, max_size=6))
def test_what_is_picked_overlaps_nothing(taken: list[IPv4Network]) -> None:
    try:
        network, reasons = ranges.pick(ranges.CLUSTER_CANDIDATES, taken)
    except Unavailable:
        assert all(any(t.overlaps(IPv4Network(c)) for t in taken) for c in ranges.CLUSTER_CANDIDATES)
        return
    assert not any(network.overlaps(t) for t in taken)
    assert len(reasons) == ranges.CLUSTER_CANDIDATES.index(str(network))


def test_candidates_do_not_overlap_each_other() -> None:
    for candidates in (ranges.CLUSTER_CANDIDATES, ranges.lab_candidates()):
        networks = sorted(IPv4Network(c) for c in candidates)
        assert all(not a.overlaps(b) for a, b in itertools.pairwise(networks))


def test_resolvers_are_read_from_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# nameserver 9.9.9.9\nsearch example.org\nnameserver 10.255.255.53\n nameserver  1.1.1.1\n")

    assert ranges.resolvers(file) == ["10.255.255.53", "1.1.1.1"]
    assert ranges.resolvers(tmp_path / "none") == []


def test_a_port_in_use_is_not_given() -> None:
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert ranges.free_port(port) != port
