"""What is shown of a server's address."""

import pytest

from shoal.config import BusConfig, without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://n1:4222", "nats://n1:4222"),
        ("nats://me:secret@n1:4222", "nats://n1:4222"),
        ("tls://s3cr@t@n1", "tls://n1"),
        ("me:secret@n1:4222", "n1:4222"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_all_servers_are_named() -> None:
    assert BusConfig(servers=("nats://a:b@n1", "nats://n2")).shown_servers == "nats://n1, nats://n2"
