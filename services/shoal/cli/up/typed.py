"""How the person at this shell types the command that runs: what is told to be tried next should work as it stands."""

import shlex
import shutil
import sys
from pathlib import Path


def typed(program: str) -> str:
    """`shoal` where the PATH leads to `program`; else its path, from here if it is below."""
    path = Path(program).absolute()
    if path.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m shoal.cli"
    found = shutil.which(path.name)
    if found is not None and Path(found).resolve() == path.resolve():
        return path.name
    here = Path.cwd()
    if path.parent == here:
        return shlex.quote(f"./{path.name}")
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
