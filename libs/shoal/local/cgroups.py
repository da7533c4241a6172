"""Cgroups of an engine of our own: made, emptied of every process, removed. Works on v1, hybrid and v2, without systemd.

The engine runs in `<cgroup>/engine` and is told `--cgroup-parent=/<cgroup>`, so that whatever an engine starts, shims
and containers and what they exec, is below one directory: what is to be gone is found there, not guessed at by names.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
TRACKING = ("pids", "freezer", "memory", "systemd")  # v1: any one hierarchy will do to find processes
CONTROLLERS = "cpu memory pids cpuset io"
KILL_SECONDS = 10.0


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Every mounted hierarchy: one with v2 alone, many with v1, those and `unified` on a hybrid machine."""
    if (root / "cgroup.controllers").exists():
        return [root]
    with suppress(OSError):
        return [path for path in sorted(root.iterdir()) if (path / "cgroup.procs").exists() and not path.is_symlink()]
    return []


def tracking(root: Path = ROOT) -> Path | None:
    """The hierarchy in which we find processes again."""
    found = {path.name: path for path in hierarchies(root)}
    if root.name in found and (root / "cgroup.controllers").exists():
        return root
    return next((found[name] for name in TRACKING if name in found), next(iter(found.values()), None))


def make(name: str, root: Path = ROOT) -> Path | None:
    """The cgroup for an engine itself; None where no cgroups are mounted."""
    base = tracking(root)
    if base is None:
        return None
    if base == root:
        _delegate(root)
    path = base / name / "engine"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _delegate(root: Path) -> None:
    """v2: hand the controllers down. In a container the "root" is not the real one, and its processes stand in the way
    (no processes in inner cgroups): they move to a leaf, as Docker's own `dind` script does it.
    """
    control = root / "cgroup.subtree_control"
    with suppress(OSError):
        if "memory" in control.read_text().split():
            return
    for attempt in (1, 2):
        done = False
        for controller in CONTROLLERS.split():
            with suppress(OSError):
                control.write_text(f"+{controller}")
                done = done or controller == "memory"
        if done or attempt == 2 or not (root / "cgroup.type").exists():
            return
        leaf = root / "init"
        leaf.mkdir(exist_ok=True)
        for pid in (root / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (leaf / "cgroup.procs").write_text(pid)


def processes(path: Path) -> list[int]:
    """Every process in this cgroup and below."""
    found: list[int] = []
    for folder, _, files in os.walk(path):
        if "cgroup.procs" in files:
            with suppress(OSError):
                found += [int(line) for line in (Path(folder) / "cgroup.procs").read_text().split()]
    return found


def kill(path: Path, seconds: float = KILL_SECONDS) -> bool:
    """SIGKILL whatever is in there and below, until nothing is. Blocking; False if something resists."""
    deadline = time.monotonic() + seconds
    while found := processes(path):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # it was in there a moment ago, and nothing can leave but by ending
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def remove(name: str, root: Path = ROOT) -> None:
    """Remove the cgroup and what is below it from every hierarchy. It must be empty of processes."""
    for base in hierarchies(root):
        for folder, _, _ in os.walk(base / name, topdown=False):
            for _ in range(100):  # a cgroup is busy for a moment after its last process
                try:
                    Path(folder).rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                else:
                    break
