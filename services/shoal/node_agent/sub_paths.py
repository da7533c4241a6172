"""A path inside a volume, held fast: a container may put a link there at any moment, to anywhere on the host.

Checking a path and then naming it to the engine leaves time to swap what it names (CVE-2017-1002101). So each part is opened
below the one before, following no link, and what was opened is bound to a place of the agent's own: that is what the
engine is told, and it stays what it is. Like the kubelet's, a bind shows no mounts below it.
"""

import ctypes
import os
import stat
from pathlib import Path, PurePosixPath

from shoal.errors import ShoalError
from shoal.mounts import unmount_below

_MS_BIND = 4096
_HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class VolumeError(ShoalError):
    """A volume cannot be had as the manifest says."""


def bind_below(base: Path, below: str, place: Path) -> None:
    """Mount `base`/`below` on `place`, a file or directory that is made; a directory that is missing is made, too.

    Raises: VolumeError for what leads out of `base`; OSError.
    """
    held = open_below(base, below)
    try:
        unmount_below(place)
        _make_place(place, directory=stat.S_ISDIR(os.fstat(held).st_mode))
        if _libc.mount(b"/proc/self/fd/%d" % held, os.fsencode(place), None, _MS_BIND, None) != 0:
            raise VolumeError(f"subPath {below!r}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(held)


def open_below(base: Path, below: str) -> int:
    """What is there, as a descriptor that only holds it. Raises: as `bind_below`."""
    parts = PurePosixPath(below).parts
    if below.startswith("/") or ".." in parts:
        raise VolumeError(f"subPath {below!r} must stay inside its volume")
    here = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for index, part in enumerate(parts):
        try:
            following = _step(here, part, last=index == len(parts) - 1, below=below)
        finally:
            os.close(here)
        here = following
    return here


def _step(here: int, part: str, *, last: bool, below: str) -> int:
    made = False
    try:
        found = os.open(part, _HELD, dir_fd=here)
    except FileNotFoundError:
        os.mkdir(part, 0o755, dir_fd=here)
        made = True
        found = os.open(part, _HELD, dir_fd=here)
    mode = os.fstat(found).st_mode
    if not stat.S_ISDIR(mode) and not (last and stat.S_ISREG(mode)):
        os.close(found)
        raise VolumeError(f"subPath {below!r}: {part} is neither a directory nor a file")
    if made:  # whoever may write the volume may write here
        Path(f"/proc/self/fd/{found}").chmod(stat.S_IMODE(os.fstat(here).st_mode))
    return found


def _make_place(place: Path, *, directory: bool) -> None:
    if place.exists() and place.is_dir() != directory:
        place.rmdir() if place.is_dir() else place.unlink()
    if directory:
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
