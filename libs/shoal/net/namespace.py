"""Doing something inside another network namespace, without ever taking the event loop's thread there.

A socket belongs for life to the namespace in which it was made, and setns(2) moves one thread alone. So a short-lived
thread enters, makes the socket or writes the sysctl, and ends: there is no way back that could fail.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def call_in(namespace_fd: int, work: Callable[[], T]) -> T:
    """`work()` in the network namespace behind the file descriptor; its result. Raises what it raises, OSError."""
    results: list[T] = []
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            if _libc.setns(namespace_fd, CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"enter a network namespace: {os.strerror(number)}")  # noqa: TRY301
            results.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again where it belongs)
            errors.append(error)

    thread = threading.Thread(target=inside, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def open_of(pid: int) -> int:
    """A file descriptor of the network namespace of a process. Raises: OSError (it has ended)."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def inode(descriptor: int) -> int:
    """Two namespaces are one if this number is equal."""
    return os.fstat(descriptor).st_ino


def own() -> int:
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
