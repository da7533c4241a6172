"""Files of pods: made, checked, never out of their volume, and gone at the end."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.node_agent.made import a_pod

from shoal.model.pod import Pod
from shoal.model.volume import HostPathVolumeSource
from shoal.node_agent import volumes as volumes_module
from shoal.node_agent.sub_paths import VolumeError
from shoal.node_agent.volumes import Volumes, check_host_path

VOLUME = {"name": "v", "emptyDir": {}}


def a_pod_with(*mounts: dict[str, Any], volumes: list[dict[str, Any]] | None = None, **spec: Any) -> Pod:
    container = {
        "name": "web",
        "image": "i",
        "volumeMounts": list(mounts),
        "terminationMessagePath": "/dev/termination-log",
    }
    return a_pod(containers=[container], volumes=volumes if volumes is not None else [VOLUME], **spec)


def test_an_empty_dir_is_for_everybody_and_goes_with_its_pod(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path, shared=True)
    pod = a_pod_with({"name": "v", "mountPath": "/data", "readOnly": True})
    files = volumes.prepare(pod, {"hosts": "h", "resolv.conf": "r", "hostname": "n"})
    data, ended = volumes.mounts(pod, pod.spec.containers[0], 3)
    assert Path(files.hosts).read_text() == "h"
    assert (data.target, data.read_only) == ("/data", True)
    assert Path(data.source).stat().st_mode & 0o777 == 0o777
    Path(data.source, "kept").write_text("x")
    volumes.prepare(pod, {"hosts": "h2"})
    assert Path(data.source, "kept").read_text() == "x", "preparing again loses nothing"
    Path(ended.source).write_text("last words")
    assert volumes.message("u1", "web", 3) == "last words"
    volumes.release("u1")
    assert volumes.uids() == set()
    assert volumes.message("u1", "web", 3) == ""


def test_a_group_owns_what_it_is_given(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files away")
    pod = a_pod_with({"name": "v", "mountPath": "/data"}, securityContext={"fsGroup": 4242})
    volumes = Volumes(tmp_path, shared=True)
    volumes.prepare(pod, {})
    found = (tmp_path / "u1/volumes/v").stat()
    assert found.st_gid == 4242
    assert found.st_mode & 0o7777 == 0o2777


def test_what_a_pod_made_of_its_volume_stays_when_its_agent_starts_again(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path, shared=True)
    pod = a_pod_with({"name": "v", "mountPath": "/data"})
    volumes.prepare(pod, {})
    data = tmp_path / "u1/volumes/v"
    data.chmod(0o700)  # as a database does with its own directory
    Volumes(tmp_path, shared=True).prepare(pod, {})
    assert data.stat().st_mode & 0o7777 == 0o700


def test_a_volume_that_was_half_made_is_finished(tmp_path: Path) -> None:
    half = tmp_path / "u1/volumes/v.new"
    half.mkdir(parents=True, mode=0o700)
    Volumes(tmp_path, shared=True).prepare(a_pod_with({"name": "v", "mountPath": "/data"}), {})
    assert [(p.name, p.stat().st_mode & 0o7777) for p in half.parent.iterdir()] == [("v", 0o777)]


def test_memory_is_made_with_its_owner_and_mode_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[str] = []
    monkeypatch.setattr(volumes_module, "_mount_tmpfs", lambda _, options: mounted.append(options))
    memory = {"name": "m", "emptyDir": {"medium": "Memory"}}
    pod = a_pod_with({"name": "m", "mountPath": "/m"}, volumes=[memory], securityContext={"fsGroup": 4242})
    Volumes(tmp_path, shared=True).prepare(pod, {})
    assert mounted == ["mode=2777,gid=4242"]


def test_where_no_files_are_shared_the_engine_keeps_the_volume(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path, shared=False)
    memory = {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    pod = a_pod_with({"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}, volumes=[VOLUME, memory])
    disk, tmpfs = volumes.mounts(pod, pod.spec.containers[0], 0)
    assert (disk.volume, disk.source, disk.tmpfs) == (True, "shoal_u1_v", "")
    assert tmpfs.tmpfs == "size=1048576,mode=0777"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "path", "fits"),
    [
        ("Directory", "dir", True),
        ("Directory", "file", False),
        ("Directory", "none", False),
        ("File", "file", True),
        ("File", "none", False),
        ("FileOrCreate", "none", True),
        ("DirectoryOrCreate", "none", True),
        ("DirectoryOrCreate", "file", False),
        ("Socket", "file", False),
        ("CharDevice", "/dev/null", True),
        ("BlockDevice", "/dev/null", False),
        ("", "none", True),
    ],
)
def test_a_host_path_is_what_the_manifest_says(tmp_path: Path, kind: str, path: str, fits: bool) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    source = HostPathVolumeSource(path=str(tmp_path / path), type=kind)
    if fits:
        check_host_path("v", source)
        assert (tmp_path / path).exists()
    else:
        with pytest.raises(VolumeError, match="hostPath type check failed"):
            check_host_path("v", source)


def test_an_agent_in_a_container_looks_for_host_paths_below_the_hosts_root(tmp_path: Path) -> None:
    source = HostPathVolumeSource(path="/srv/data", type="DirectoryOrCreate")
    check_host_path("v", source, tmp_path)
    assert (tmp_path / "srv/data").is_dir()
    with pytest.raises(VolumeError, match="/srv/data is not"):
        check_host_path("v", HostPathVolumeSource(path="/srv/data", type="File"), tmp_path)
