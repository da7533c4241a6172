import socket
from pathlib import Path

from shoal.local.notify import READY, notify


def test_a_datagram_tells_the_supervisor(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "n"))
        listener.settimeout(5)

        assert notify(env={"NOTIFY_SOCKET": str(tmp_path / "n")}) is True
        assert listener.recv(100) == READY.encode()


def test_nobody_to_tell_is_no_error(tmp_path: Path) -> None:
    assert notify(env={}) is False
    assert notify(env={"NOTIFY_SOCKET": str(tmp_path / "none")}) is False
    assert notify(env={"NOTIFY_SOCKET": "vsock:1:2"}) is False
