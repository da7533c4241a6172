"""Programs that tests use where they can be had. `make test` installs some by Go beside the first tests (.ci/tools)."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

WAIT_S = 240.0


def found_or_awaited(name: str, find: Callable[[], str | None], wait_s: float = WAIT_S) -> str | None:
    """What `find` says, as soon as it says something; None once nobody is installing it (any more)."""
    deadline = time.monotonic() + wait_s
    while (found := find()) is None and _being_installed(name) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _being_installed(name: str) -> bool:
    """.ci/tools leaves `.wanted` when it begins, and `.done` when it has ended."""
    logs = Path(os.environ.get("SHOAL_CI_LOG") or f"/tmp/shoal-ci-{os.getuid()}")
    return (logs / f"go-{name}.wanted").exists() and not (logs / f"go-{name}.done").exists()


def go_path() -> str:
    """PATH, with the folder that `go install` fills."""
    own = os.environ.get("GOBIN") or str(Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin")
    return f"{os.environ['PATH']}:{own}"


def nats_cli() -> str | None:
    return found_or_awaited("nats", lambda: shutil.which("nats", path=go_path()))
