"""Where Jaeger listens: on ports that are free, of TCP or of UDP as it uses them."""

import socket

from shoal.local.jaeger import UDP_FLAGS, Jaeger, Ports, free_ports


def test_a_port_that_only_udp_uses_is_found_taken() -> None:
    usual = Ports()
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.77", usual.udp[0]))
        found = free_ports("127.0.0.77")

    assert found.udp[0] != usual.udp[0]
    assert found.udp[1:] == usual.udp[1:]
    assert found.rest == usual.rest


def test_a_udp_port_is_free_whatever_tcp_does() -> None:
    usual = Ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.77", usual.udp[0]))
        taken.listen()
        assert free_ports("127.0.0.77").udp == usual.udp


def test_each_port_reaches_its_flag() -> None:
    argv = Jaeger(host="127.0.0.1", binary="jaeger", ports=Ports(udp=(1, 2, 3))).program().argv
    assert [f"--{flag}=127.0.0.1:{port}" for flag, port in zip(UDP_FLAGS, (1, 2, 3), strict=True)] == argv[7:10]
