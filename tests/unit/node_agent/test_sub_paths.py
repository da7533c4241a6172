"""What a container sees by a subPath is inside its volume, whatever it does to the path before or after."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.node_agent.test_volumes import a_pod_with

from shoal.errors import Unavailable
from shoal.mounts import mounted_below, unmount_below
from shoal.node_agent.containers import Mount
from shoal.node_agent.sub_paths import VolumeError, open_below
from shoal.node_agent.volumes import Volumes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")


def where(held: int) -> Path:
    try:
        return Path(f"/proc/self/fd/{held}").readlink()
    finally:
        os.close(held)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_sub_path_is_made_inside_as_open_as_its_volume(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert where(open_below(tmp_path, "a/b")) == tmp_path / "a" / "b"
    assert (tmp_path / "a/b").stat().st_mode & 0o7777 == 0o777
    (tmp_path / "a" / "file").touch()
    assert where(open_below(tmp_path, "a/file")) == tmp_path / "a" / "file"


@pytest.mark.parametrize("below", ["../x", "/etc", "a/../../x", "link", "link/x", "a/link", "inner/x", "pipe"])
def test_a_sub_path_never_leaves_its_volume(tmp_path: Path, below: str) -> None:
    """A container may have left a link there, to anywhere on the host."""
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "link").symlink_to("/etc")
    (volume / "a" / "link").symlink_to("/etc/passwd")
    (volume / "inner").symlink_to("a")
    os.mkfifo(volume / "pipe")
    before = descriptors()
    with pytest.raises((VolumeError, OSError)):
        open_below(volume, below)
    assert descriptors() == before


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    yield Volumes(tmp_path / "with space" / "pods", shared=True)
    unmount_below(tmp_path)


def mounted(volumes: Volumes, attempt: int = 0) -> Mount:
    pod = a_pod_with({"name": "v", "mountPath": "/data", "subPath": "a/b"})
    volumes.prepare(pod, {})
    return volumes.mounts(pod, pod.spec.containers[0], attempt)[0]


@needs_root
def test_what_is_swapped_after_the_check_is_not_what_the_engine_mounts(volumes: Volumes, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the host's")
    source = Path(mounted(volumes).source)
    inside = tmp_path / "with space/pods/u1/volumes/v/a"
    (inside / "b/own").write_text("the pod's")

    (inside / "b").rename(inside / "c")
    (inside / "b").symlink_to(secret)
    assert [path.name for path in source.iterdir()] == ["own"]

    with pytest.raises(VolumeError, match="neither a directory nor a file"):
        mounted(volumes, attempt=1)


@needs_root
def test_each_attempt_binds_anew_and_a_file_may_take_a_directorys_place(volumes: Volumes, tmp_path: Path) -> None:
    source = Path(mounted(volumes).source)
    path = tmp_path / "with space/pods/u1/volumes/v/a/b"
    path.rmdir()
    path.write_text("a file now")
    assert Path(mounted(volumes, attempt=1).source) == source
    assert source.read_text() == "a file now"
    assert mounted_below(source) == [str(source)]


@needs_root
def test_a_release_removes_nothing_of_what_is_bound(volumes: Volumes, tmp_path: Path) -> None:
    host = tmp_path / "of the host"
    (host / "a/b").mkdir(parents=True)
    (host / "a/b/kept").write_text("x")
    mount = {"name": "v", "mountPath": "/data", "subPath": "a/b"}
    pod = a_pod_with(mount, volumes=[{"name": "v", "hostPath": {"path": str(host)}}])
    volumes.prepare(pod, {})
    (bound, _) = volumes.mounts(pod, pod.spec.containers[0], 0)
    assert Path(bound.source, "kept").exists()
    volumes.release("u1")
    assert (host / "a/b/kept").read_text() == "x"
    assert volumes.uids() == set()
    assert mounted_below(tmp_path) == []


@needs_root
def test_what_cannot_be_unmounted_is_not_removed(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(mounted(volumes).source)
    (source / "kept").write_text("x")
    with monkeypatch.context() as stuck:
        stuck.setattr("shoal.mounts._libc.umount2", lambda *_: -1)
        with pytest.raises(Unavailable, match="cannot be unmounted"):
            volumes.release("u1")
    assert (tmp_path / "with space/pods/u1/volumes/v/a/b/kept").exists()
