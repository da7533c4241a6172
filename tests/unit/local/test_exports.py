"""`shoal env` after `shoal lab env` and the other way round, in one shell."""

from pathlib import Path

import msgspec
import pytest

from shoal.local import exports
from shoal.local.exports import Ours, lines
from shoal.local.jaeger import Jaeger
from shoal.local.machine import LocalRecord

OURS = Ours(directories=(Path("/home/local"), Path("/home/labs")), urls=frozenset({"http://127.0.0.1:4318"}))
CLUSTER = {"NATS_URL": "nats://127.0.0.1:4222"}


def test_what_the_other_set_is_unset() -> None:
    present = {
        "NATS_URL": "nats://198.18.0.2:4222",
        "DOCKER_HOST": "unix:///home/labs/lab/h1/docker.sock",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://198.18.0.2:4318",  # of a lab that may be down
    }
    assert list(lines(CLUSTER, present, OURS)) == [
        "unset DOCKER_HOST",
        "unset OTEL_EXPORTER_OTLP_ENDPOINT",
        "export NATS_URL=nats://127.0.0.1:4222",
    ]


def test_what_is_wanted_is_only_set() -> None:
    wanted = {**CLUSTER, "DOCKER_HOST": "unix:///home/local/engine/docker.sock"}
    assert list(lines(wanted, wanted, OURS)) == [f"export {name}={value}" for name, value in wanted.items()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("DOCKER_HOST", "unix:///home/locally/docker.sock"),
        ("DOCKER_HOST", "tcp://10.0.0.1:2376"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        ("NATS_CREDS", "/home/labs/x.creds"),
    ],
)
def test_what_is_the_users_own_stays(name: str, value: str) -> None:
    assert list(lines(CLUSTER, {name: value}, OURS)) == ["export NATS_URL=nats://127.0.0.1:4222"]


def test_ours_is_what_the_records_of_this_machine_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHOAL_LAB_DIR", str(tmp_path / "labs"))
    (tmp_path / "home").mkdir()
    record = LocalRecord(
        node="n", port=4333, store="/s", cluster_cidr="10.208.0.0/12", socket="/x", own_engine=False,
        jaeger=Jaeger(host="127.0.0.1", binary="/bin/jaeger"),
    )  # fmt: skip
    (tmp_path / "home/local.json").write_bytes(msgspec.json.encode(record))
    found = exports.ours()

    assert found.owns("nats://127.0.0.1:4333")
    assert found.owns("http://127.0.0.1:4318")
    assert found.owns(f"unix://{tmp_path}/home/engine/docker.sock")
    assert found.owns(f"unix://{tmp_path}/labs/lab/h1/docker.sock")
    assert not found.owns("http://127.0.0.1:4319")
