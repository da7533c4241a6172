"""The labs of this machine, as files: what must be known to use, or to clear away, each; names and address blocks.

A lab's directory is `base()/NAME`; `lab.json` in it is its record.
"""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from shoal.errors import Invalid
from shoal.local import links, ranges
from shoal.local.control import Control
from shoal.local.jaeger import Jaeger

BASE = Path("/var/lib/shoal/labs")


class LabRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`lab.json`."""

    name: str
    plan: links.Plan
    cluster_cidr: str
    env: dict[str, str] = {}
    jaeger: Jaeger | None = None


def base() -> Path:
    return Path(os.environ.get("SHOAL_LAB_DIR") or BASE)


def read_record(name: str) -> LabRecord | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((base() / name / "lab.json").read_bytes(), type=LabRecord)
    return None


def records() -> list[LabRecord]:
    """Of all labs that there are files of, running or not."""
    found = [read_record(path.parent.name) for path in sorted(base().glob("*/lab.json"))]
    return [r for r in found if r is not None]


def running_labs() -> list[LabRecord]:
    return [r for r in records() if Control(base() / r.name).process() is not None]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One lab at a time picks its block."""
    base().mkdir(parents=True, exist_ok=True)
    with (base() / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check(name: str, hosts: int, link_count: int) -> None:
    """Raises: Invalid for what no lab can be."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise Invalid(f"{name!r} is no name for a lab: lower-case letters, digits and dashes")
    if not (1 <= link_count <= links.LINKS_MAX and 1 <= hosts <= links.HOSTS_MAX):
        raise Invalid(f"a lab has 1 to {links.HOSTS_MAX} hosts and 1 to {links.LINKS_MAX} links")


def reserve(
    name: str, hosts: int, link_count: int, env: dict[str, str], binary: str | None, cluster_cidr: str
) -> LabRecord:
    """Pick a block that neither this machine nor another lab uses, and write it down. Under the lock."""
    others = [IPv4Network(r.plan.block) for r in records()]
    candidates = ranges.lab_candidates()
    block, _ = ranges.pick(candidates, [*ranges.taken(), *others])
    plan = links.Plan(
        block=str(block),
        number=candidates.index(str(block)),
        links=link_count,
        hosts=[f"h{n}" for n in range(1, hosts + 1)],
    )
    found = Jaeger(binary=binary, host=str(plan.nats_address)) if binary else None
    record = LabRecord(name=name, plan=plan, cluster_cidr=cluster_cidr, env=env, jaeger=found)
    _write_files(record)
    return record


def _write_files(record: LabRecord) -> None:
    """The record, and what stands in for each host's own files in /etc."""
    directory = base() / record.name
    names = "\n".join(f"{record.plan.address(h)} {h}" for h in record.plan.hosts)
    for host in record.plan.hosts:
        etc = directory / host / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # refuses at once: no pull hangs
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{names}\n")
        (etc / "hostname").write_text(f"{host}\n")
        (etc / "machine-id").write_text(f"{secrets.token_hex(16)}\n")
    (directory / "lab.json").write_bytes(msgspec.json.encode(record))
