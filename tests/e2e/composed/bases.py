"""The base images that Dockerfile and compose.yaml name, made locally under those names: no registry is asked.

`python:3.13-slim` is Debian trixie (as the real one is) by debootstrap, kept in the cache; nats and Jaeger are their
own programs in otherwise empty images with the entry points of the official ones.
"""

import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.e2e.tracing.jaeger import jaeger_path

from shoal.local.engine_client import EngineClient
from shoal.local.nats_server import nats_server_path

ROOT = Path(__file__).parents[3]
CACHE = Path(
    os.environ.get("SHOAL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal"
)
CA = Path("/etc/ssl/certs/ca-certificates.crt")


def named_images() -> dict[str, str]:
    """Every image that is named, by its name without registry and tag: `python` → `python:3.13-slim`."""
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "compose.yaml").read_text()
    names = re.findall(r"(?:^FROM|image:) +(\S+:\S+)", text, re.MULTILINE)
    return {name.rpartition(":")[0].rpartition("/")[2]: name for name in names}


def make_all(engine: EngineClient) -> None:
    names = named_images()
    python(engine, names["python"])
    nats(engine, names["nats"])
    uv(engine, names["uv"])
    jaeger(engine, names["jaeger"])


def _import(engine: EngineClient, name: str, tar: bytes, changes: tuple[str, ...]) -> None:
    repository, _, tag = name.rpartition(":")
    engine.import_image(tar, repository, tag, changes)


def python(engine: EngineClient, name: str) -> None:
    _import(engine, name, debian("trixie", "python-is-python3").read_bytes(), ("CMD python3", *_environment()))


def _environment() -> list[str]:
    """The certificates that this machine trusts, for a build behind a proxy that has its own."""
    return [f"ENV {name}={CA}" for name in ("SSL_CERT_FILE", "PIP_CERT")]


def debian(suite: str, *packages: str) -> Path:
    """A tar of that Debian with these packages (debootstrap: about 50 s, once a machine). Raises: CalledProcessError."""
    kept = CACHE / f"{'-'.join((suite, *packages))}-{platform.machine()}.tar"
    if kept.exists():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        root = Path(folder) / "root"
        include = ",".join(("python3", "ca-certificates", *packages))
        command = ["debootstrap", "--variant=minbase", f"--include={include}", suite, str(root)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        shutil.copyfile(CA, root / CA.relative_to("/"))
        for waste in ("var/cache/apt/archives", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / waste, ignore_errors=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        packed = Path(folder) / "packed.tar"
        subprocess.run(["tar", "-C", str(root), "--exclude=./dev/*", "-cf", str(packed), "."], check=True, timeout=120)
        packed.rename(kept)
    return kept


def nats(engine: EngineClient, name: str) -> None:
    tar = _tar({"nats-server": Path(nats_server_path())})
    _import(engine, name, tar, ('ENTRYPOINT ["/nats-server"]', 'CMD ["--config", "nats-server.conf"]'))


def uv(engine: EngineClient, name: str) -> None:
    found = shutil.which("uv") or next(map(str, sorted(CACHE.glob("uv-*/bin/uv"))), None)
    assert found, "no uv: run make install"
    _import(engine, name, _tar({"uv": Path(found)}), ('ENTRYPOINT ["/uv"]',))


def jaeger(engine: EngineClient, name: str) -> None:
    """Where there is no Go there is no Jaeger: then a program that only waits has the name, and spans are refused."""
    program = jaeger_path()
    if program is None:
        _import(
            engine,
            name,
            _tar({"bin/busybox": Path("/bin/busybox")}),
            ('CMD ["/bin/busybox", "sleep", "infinity"]',),
        )
        return
    files = {"all-in-one": Path(program)} | {lib.lstrip("/"): Path(lib) for lib in _libraries(program)}
    _import(engine, name, _tar(files), ('ENTRYPOINT ["/all-in-one"]', "ENV COLLECTOR_OTLP_ENABLED=true"))


def _libraries(program: str) -> list[str]:
    """What a program that was linked with cgo needs beside itself."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", said)


def _tar(files: dict[str, Path]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("tmp", "data"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        for place, source in files.items():
            entry = tarfile.TarInfo(place)
            data = source.read_bytes()
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()
