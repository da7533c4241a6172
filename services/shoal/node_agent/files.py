"""Small files of the agent's own state: there whole, or as they were before."""

import os
from pathlib import Path


def replace(path: Path, content: bytes, *, sync: bool = True) -> None:
    """`sync`: on disk, its name too, before this returns; else a crash of the host may take it. Raises: OSError."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if sync:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
