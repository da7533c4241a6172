"""Images made on the spot, without the internet: `shoal/busybox` and `shoal/web`, from Debian's static busybox.

An image is a tar handed to the engine's import API. The busybox is the machine's own, so that it fits its processor.
"""

import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from shoal.errors import Unavailable
from shoal.local import packages
from shoal.local.engine_client import EngineClient
from shoal.names import IMAGE_DIGEST

BUSYBOX = Path("/bin/busybox")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
HELLO = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "hello from $(hostname)"
"""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """`name` without a tag. `files`: what lies beside busybox, path → text; what is in cgi-bin is executable."""

    name: str
    tags: tuple[str, ...]
    files: dict[str, str]
    changes: tuple[str, ...]


def examples(version: str) -> tuple[Image, ...]:
    """`shoal/busybox`, a shell; `shoal/web`, a web server on port 8080 that says which pod answers."""
    env = f"ENV PATH={PATH}"
    return (
        Image(name="shoal/busybox", tags=("latest", version), files=FILES, changes=(env, 'CMD ["sh"]')),
        Image(
            name="shoal/web",
            tags=("latest",),
            files=FILES | {"www/cgi-bin/index.cgi": HELLO},
            changes=(env, "EXPOSE 8080", 'CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]'),
        ),
    )


def build(engine: EngineClient, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """Make sure that the engine has the example images; the names of those that had to be made.

    Raises: Unavailable if there is no busybox and it cannot be installed.
    """
    applets, version = busybox(say)
    made = []
    for image in examples(version):
        tar = rootfs(applets, image.files)
        digest = hashlib.sha256(tar + "\0".join(image.changes).encode()).hexdigest()
        if engine.image_labels(image.name).get(IMAGE_DIGEST) != digest:
            engine.import_image(tar, image.name, image.tags[0], (*image.changes, f"LABEL {IMAGE_DIGEST}={digest}"))
            made.append(image.name)
        for tag in image.tags:
            if not engine.has_image(f"{image.name}:{tag}"):
                engine.tag(f"{image.name}:{image.tags[0]}", image.name, tag)
    return made


def remove(engine: EngineClient) -> None:
    """What `build` made; an image of such a name that carries no digest of ours is somebody else's."""
    for reference in engine.images_of("shoal/*"):
        if IMAGE_DIGEST in engine.image_labels(reference):
            engine.remove_image(reference)


def busybox(say: Callable[[str], None] = lambda _: None) -> tuple[list[str], str]:
    """Its applets, and its version as `1.35`. Installs it if it is missing and we may."""
    if not BUSYBOX.exists() or not _static():
        packages.install(["busybox-static"], why="to build the example images", say=say)
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    banner = subprocess.run([BUSYBOX], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v(\d+\.\d+)", banner)
    if found is None:
        raise Unavailable(f"{BUSYBOX} does not say its version")
    return applets, found[1]


def _static() -> bool:
    """A busybox that needs a dynamic loader (ELF program header 3) does not run in an empty image."""
    head = BUSYBOX.read_bytes()[:4096]
    return b"/ld-linux" not in head and b"/ld-musl" not in head and b"/lib/ld" not in head


def rootfs(applets: list[str], files: dict[str, str]) -> bytes:
    """A tar of /bin/busybox, a link an applet, `files`, and the usual folders. The same input gives the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, mode in (
            ("tmp", 0o1777),
            ("root", 0o700),
            ("var", 0o755),
            ("proc", 0o555),
            ("sys", 0o555),
            ("dev", 0o755),
        ):
            _add(tar, folder, mode, kind=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", 0o755, BUSYBOX.read_bytes())
        for applet in sorted(set(applets) - {"busybox"}):
            _add(tar, f"bin/{applet}", 0o777, kind=tarfile.SYMTYPE, link="busybox")
        for path, text in sorted(files.items()):
            _add(tar, path, 0o755 if "cgi-bin" in path else 0o644, text.encode())
    return out.getvalue()


def _add(
    tar: tarfile.TarFile, path: str, mode: int, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
    tar.addfile(entry, io.BytesIO(data) if data else None)
