"""A pod's files on the node: emptyDirs (disk, tmpfs), hostPaths with their types checked, termination messages.

    <state>/pods/<uid>/etc/          hosts, resolv.conf, hostname
    <state>/pods/<uid>/volumes/<v>/  an emptyDir
    <state>/pods/<uid>/subpaths/<c>/ what a container sees of a volume by a subPath, bound there: one for each of its mounts
    <state>/pods/<uid>/ended/        <container>.<attempt>: its termination message

Where the agent shares no file system with the engine (the fallback) an emptyDir is a volume of the engine's, and
nothing else is made.
"""

import ctypes
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from shoal.model import quantity
from shoal.model.container import Container
from shoal.model.pod import Pod
from shoal.model.volume import EmptyDirVolumeSource, HostPathVolumeSource, Volume, VolumeMount
from shoal.mounts import unmount_below
from shoal.node_agent.containers import Files, Mount
from shoal.node_agent.sub_paths import VolumeError, bind_below

MESSAGE_MAX = 4096
_MS_NOSUID_NODEV = 6
_PROPAGATION = {"": "rprivate", "None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}

_libc = ctypes.CDLL(None, use_errno=True)


class Volumes:
    def __init__(self, root: Path, *, shared: bool, host_root: Path = Path("/")) -> None:
        """`shared`: the engine sees the same files as the agent, those of the host below `host_root`."""
        self._root = root
        self._host_root = host_root
        self.shared = shared

    def _of(self, uid: str) -> Path:
        return self._root / uid

    def uids(self) -> set[str]:
        """The pods that have files here."""
        try:
            return {entry.name for entry in self._root.iterdir()}
        except FileNotFoundError:
            return set()

    # --- making ------------------------------------------------------------------------------------------------------

    def prepare(self, pod: Pod, etc: dict[str, str]) -> Files:
        """The pod's directory, with `etc` in it and its volumes. Doing it again changes no content.

        Raises: VolumeError, OSError.
        """
        for volume in pod.spec.volumes:
            if volume.host_path is not None and self.shared:
                check_host_path(volume.name, volume.host_path, self._host_root)
        if not self.shared:
            return Files()
        home = self._of(pod.metadata.uid)
        directory = home / "etc"
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        for name, content in etc.items():
            (directory / name).write_text(content)
        for volume in pod.spec.volumes:
            if volume.empty_dir is not None:
                self._empty_dir(pod, volume, volume.empty_dir)
        return Files(
            hosts=str(directory / "hosts"),
            resolv_conf=str(directory / "resolv.conf"),
            hostname=str(directory / "hostname"),
        )

    def _empty_dir(self, pod: Pod, volume: Volume, source: EmptyDirVolumeSource) -> None:
        """Its owner and mode are set while it is made, and never again: from then on they are the pod's to change."""
        path = self._of(pod.metadata.uid) / "volumes" / volume.name
        group = pod.spec.security_context.fs_group if pod.spec.security_context else None
        if source.medium == "Memory":
            path.mkdir(parents=True, exist_ok=True)
            if not path.is_mount():
                _mount_tmpfs(path, _tmpfs_options(source, group))
        elif not path.exists():
            new = path.with_name(f"{volume.name}.new")  # no volume is named so: one half made is found and finished
            new.mkdir(parents=True, exist_ok=True)
            if group is not None:
                os.chown(new, -1, group)
            new.chmod(_mode(group))
            new.rename(path)

    # --- mounts ------------------------------------------------------------------------------------------------------

    def mounts(self, pod: Pod, container: Container, attempt: int) -> tuple[Mount, ...]:
        """What one container sees of them. Raises: VolumeError for a subPath that leaves its volume."""
        volumes = {v.name: v for v in pod.spec.volumes}
        places = self._of(pod.metadata.uid) / "subpaths" / container.name
        found = [
            self._mount(pod, volumes[m.name], m, places / str(number))
            for number, m in enumerate(container.volume_mounts)
            if m.name in volumes
        ]
        if self.shared and container.termination_message_path:
            file = self._ended(pod.metadata.uid, container.name, attempt)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o666)
            file.chmod(0o666)
            found.append(Mount(source=str(file), target=container.termination_message_path))
        return tuple(found)

    def _mount(self, pod: Pod, volume: Volume, mount: VolumeMount, place: Path) -> Mount:
        propagation = _PROPAGATION.get(mount.mount_propagation, "rprivate")
        if volume.host_path is not None:
            base = volume.host_path.path
        elif not self.shared:
            if mount.sub_path:
                raise VolumeError(f"volume {volume.name}: subPath needs an engine on the agent's own file system")
            memory = volume.empty_dir is not None and volume.empty_dir.medium == "Memory"
            return Mount(
                source=volume_name(pod.metadata.uid, volume.name),
                target=mount.mount_path,
                read_only=mount.read_only,
                volume=True,
                tmpfs=_tmpfs_options(volume.empty_dir) if memory and volume.empty_dir is not None else "",
            )
        else:
            base = str(self._of(pod.metadata.uid) / "volumes" / volume.name)
        source = Path(base)
        if mount.sub_path:
            seen = on_host(self._host_root, base) if volume.host_path is not None else source
            bind_below(seen, mount.sub_path, place)
            source = place
        return Mount(source=str(source), target=mount.mount_path, read_only=mount.read_only, propagation=propagation)

    # --- endings -----------------------------------------------------------------------------------------------------

    def _ended(self, uid: str, container: str, attempt: int) -> Path:
        return self._of(uid) / "ended" / f"{container}.{attempt}"

    def message(self, uid: str, container: str, attempt: int) -> str:
        """What a container left as its termination message; "" for nothing."""
        try:
            with self._ended(uid, container, attempt).open("rb") as file:
                return file.read(MESSAGE_MAX).decode(errors="replace")
        except OSError:
            return ""

    def forget_message(self, uid: str, container: str, attempt: int) -> None:
        with suppress(OSError):
            self._ended(uid, container, attempt).unlink(missing_ok=True)

    def release(self, uid: str) -> None:
        """Unmount and remove all of it. May take as long as a file system does: call it in a thread."""
        home = self._of(uid)
        unmount_below(home)
        shutil.rmtree(home, ignore_errors=True)
        if home.exists():
            raise VolumeError(f"{home} cannot be removed")


def volume_name(uid: str, volume: str) -> str:
    return f"shoal_{uid}_{volume}"


def _mode(group: int | None) -> int:
    return 0o777 if group is None else 0o2777


def _tmpfs_options(source: EmptyDirVolumeSource, group: int | None = None) -> str:
    size = f"size={quantity.whole(source.size_limit)}," if source.size_limit else ""
    owner = "" if group is None else f",gid={group}"
    return f"{size}mode={_mode(group):04o}{owner}"


def _mount_tmpfs(path: Path, options: str) -> None:
    if _libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", _MS_NOSUID_NODEV, options.encode()) != 0:
        number = ctypes.get_errno()
        raise VolumeError(f"mount a tmpfs on {path}: {os.strerror(number)}")


# --- hostPath ------------------------------------------------------------------------------------------------------------

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def on_host(root: Path, path: str) -> Path:
    """Where the agent sees what is `path` on the host."""
    return root / path.lstrip("/")


def check_host_path(name: str, source: HostPathVolumeSource, root: Path = Path("/")) -> None:
    """Raises: VolumeError if what is there is not what the manifest says. `...OrCreate` makes what is missing."""
    path = on_host(root, source.path)
    if not path.exists():
        if source.type == "FileOrCreate":
            path.touch(mode=0o644)
        elif source.type in {"DirectoryOrCreate", ""}:
            path.mkdir(parents=True, mode=0o755)
    if source.type:
        fits, what = _CHECKS[source.type]
        if not path.exists() or not fits(path.stat().st_mode):
            raise VolumeError(f'hostPath type check failed: {source.path} is not {what} (volume "{name}")')


def orphans(found: Iterable[str], wanted: set[str]) -> list[str]:
    return sorted(set(found) - wanted)
