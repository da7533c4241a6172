"""What `up` decides about a machine, without touching it."""

from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import pytest

from shoal.errors import Unavailable
from shoal.local import engine, images, machine, packages, ranges, sweep
from shoal.local.engine_client import EngineClient
from shoal.local.jaeger import find_image
from shoal.local.machine import LocalRecord, node_name


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("vm", "vm"), ("Build_Host.Example", "build-host.example"), ("_x_", "x"), ("___", "node"), ("a" * 70, "a" * 63)],
)
def test_a_host_name_becomes_a_name_for_a_node(hostname: str, name: str) -> None:
    assert node_name(hostname) == name


def a_record(store: Path, cidr: str) -> LocalRecord:
    return LocalRecord(node="vm", port=4222, store=str(store), cluster_cidr=cidr, socket="/s", own_engine=True)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[IPv4Network]:
    networks: list[IPv4Network] = []
    monkeypatch.setattr(ranges, "taken", lambda **_: networks)
    monkeypatch.setattr(sweep, "own_bridges", lambda _: [])
    return networks


def pick(old: LocalRecord | None, store: Path, asked: str = "") -> tuple[str, list[str]]:
    said: list[str] = []
    return machine._pick_range(old, store, asked, said.append), said


def test_a_new_cluster_takes_the_first_range_that_is_free(taken: list[IPv4Network], tmp_path: Path) -> None:
    assert pick(None, tmp_path) == ("10.208.0.0/12", [])
    taken.append(IPv4Network("10.208.0.0/16"))
    assert pick(None, tmp_path) == (
        "10.224.0.0/12",
        ["10.208.0.0/12 overlaps 10.208.0.0/16, which this machine uses"],
    )
    assert pick(None, tmp_path, "10.99.0.0/16") == ("10.99.0.0/16", [])
    with pytest.raises(Unavailable, match=r"10\.208\.0\.0/12 overlaps"):
        pick(None, tmp_path, "10.208.0.0/12")


def test_a_cluster_with_a_store_keeps_its_range_or_says_why_not(taken: list[IPv4Network], tmp_path: Path) -> None:
    (tmp_path / "jetstream").mkdir()
    old = a_record(tmp_path, "10.224.0.0/12")

    assert pick(old, tmp_path) == ("10.224.0.0/12", [])
    with pytest.raises(Unavailable, match=r"addresses are from 10\.224\.0\.0/12; .*--purge"):
        pick(old, tmp_path, "10.99.0.0/16")
    assert pick(old, tmp_path / "other") == ("10.208.0.0/12", [])  # another store is another cluster
    taken.append(IPv4Network("10.225.0.0/16"))
    with pytest.raises(Unavailable, match=r"10\.224\.0\.0/12 overlaps 10\.225\.0\.0/16.*--purge"):
        pick(old, tmp_path)


def test_an_engine_elsewhere_is_refused_and_our_own_does_not_count() -> None:
    with pytest.raises(Unavailable, match="an engine elsewhere cannot be a node of a local cluster"):
        engine.find("/own.sock", {"DOCKER_HOST": "tcp://10.0.0.1:2375"})
    assert engine.find("/own.sock", {"DOCKER_HOST": "unix:///nonexistent.sock"}) is None


def test_names_on_the_machine_differ_by_folder() -> None:
    usual = Path("/var/lib/shoal/local")

    assert engine.machine_wide("shoal-local", usual, usual) == "shoal-local"
    other = {engine.machine_wide("shoal-local", Path(p), usual) for p in ("/tmp/a", "/tmp/b")}
    assert len(other) == 2
    assert all(name.startswith("shoal-local.") for name in other)


def test_apparmor_is_wanted_only_where_the_kernel_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "which", lambda _: None)
    assert packages.apparmor(tmp_path / "enabled") == []
    (tmp_path / "enabled").write_text("Y\n")
    assert packages.apparmor(tmp_path / "enabled") == ["apparmor"]
    monkeypatch.setattr(packages, "which", lambda _: "/sbin/apparmor_parser")
    assert packages.apparmor(tmp_path / "enabled") == []


def test_what_may_not_be_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(
        Unavailable, match=r"docker\.io nftables is missing, to run containers: install it, or run this as root"
    ):
        packages.install(["docker.io", "nftables"], why="to run containers")
    packages.install([], why="nothing")


class Images(EngineClient):
    def __init__(self, *tags: str) -> None:
        super().__init__("/none")
        self.tags = list(tags)

    def images_of(self, repositories: str) -> list[str]:
        return self.tags


def test_an_image_of_jaeger_is_known_by_its_name() -> None:
    assert (
        find_image(Images("jaegertracing/jaeger-agent:1.4", "jaegertracing/jaeger:2.21.0"))
        == "jaegertracing/jaeger:2.21.0"
    )
    assert find_image(Images("jaegertracing/example-hotrod:latest")) == ""


def test_the_record_survives_its_file() -> None:
    record = a_record(Path("/store"), "10.208.0.0/12")

    assert msgspec.json.decode(msgspec.json.encode(record), type=LocalRecord) == record


def test_only_networks_of_our_range_are_ours() -> None:
    removed: list[str] = []

    class Networks(EngineClient):
        def networks(self) -> dict[str, list[str]]:
            return {
                "shoal0a1b2c3d": ["10.208.0.0/23"],
                "shoal0a1b2c3e": ["10.224.0.0/23"],
                "shoal0a1b2c3f": ["fd00::/64"],
                "shoalbridge": ["10.208.2.0/23"],
            }

        def remove_network(self, network: str) -> None:
            removed.append(network)

    sweep.engine_networks(Networks("/none"), "10.208.0.0/12")
    assert removed == ["shoal0a1b2c3d"]


@pytest.mark.parametrize(("own", "asked"), [(False, ["/s"]), (True, [])])
def test_a_purge_takes_the_images_from_an_engine_that_stays(
    own: bool, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(EngineClient, "answers", lambda _: True)
    monkeypatch.setattr(images, "remove", lambda engine: removed.append(engine.path))
    record = msgspec.structs.replace(a_record(tmp_path / "store", "10.208.0.0/12"), own_engine=own)

    machine.Machine(record, tmp_path / "home")._purge()
    assert removed == asked
