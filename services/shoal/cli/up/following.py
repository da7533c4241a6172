"""Shows what every process writes, each line with the name of its process, as it comes."""

import asyncio
from pathlib import Path
from typing import TextIO

from shoal.errors import Unavailable
from shoal.local.control import Control

EVERY_S = 0.2


async def follow(control: Control, out: TextIO) -> None:
    """Until cancelled, or until the supervisor is gone."""
    places: dict[str, int] = {}
    while True:
        try:
            reports = await control.status()
        except Unavailable:
            return
        width = max((len(name) for name in reports), default=0)
        for name, report in reports.items():
            path = Path(report.log)
            out.writelines(f"{name.ljust(width)} | {line}\n" for line in _new_lines(path, places))
        out.flush()
        await asyncio.sleep(EVERY_S)


def _new_lines(path: Path, places: dict[str, int]) -> list[str]:
    """Whole lines since the last look; from the start again if the log was cut."""
    try:
        size = path.stat().st_size
        start = places.get(str(path), 0)
        if size < start:
            start = 0
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except OSError:
        return []
    end = data.rfind(b"\n") + 1
    places[str(path)] = start + end
    return data[:end].decode(errors="replace").splitlines()
