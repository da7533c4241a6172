"""What is mounted below a folder. Whoever removes a folder unmounts first: what is bound there is somebody else's."""

import ctypes
import os
import re
from pathlib import Path

from shoal.errors import Unavailable

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def unmount_below(folder: Path) -> None:
    """Everything that is mounted on `folder` and below. Raises: Unavailable if some of it stays."""
    for path in reversed(mounted_below(folder)):
        _libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    if left := mounted_below(folder):
        raise Unavailable(f"{left[0]} cannot be unmounted")


def mounted_below(folder: Path) -> list[str]:
    """The oldest first. From the table of mounts: a bind of the same file system cannot be told by its device."""
    own = os.path.realpath(folder)
    points = [_unescaped(line.split(" ")[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point == own or point.startswith(own + "/")]


def _unescaped(text: str) -> str:
    """proc(5): space, tab, newline and backslash are octal there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
