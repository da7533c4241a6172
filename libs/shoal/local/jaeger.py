"""A Jaeger beside the cluster, if its binary or its image is on this machine: takes OTLP, shows traces.

It listens on one address alone.
"""

import os
import shutil
import socket
from pathlib import Path

import msgspec

from shoal.local.cluster import Wrap, plain
from shoal.local.engine import path_env
from shoal.local.engine_client import EngineClient
from shoal.local.program import Program
from shoal.local.ranges import free_port

BINARIES = ("jaeger-all-in-one", "all-in-one")  # of Jaeger 1; what `go install …/cmd/all-in-one` leaves
IMAGES = ("jaeger", "all-in-one")  # of versions 2 and 1
PROGRAM = "jaeger"
ENV = {"COLLECTOR_OTLP_ENABLED": "true", "SPAN_STORAGE_TYPE": "memory"}
FLAGS = (
    "collector.otlp.grpc.host-port",
    "collector.grpc-server.host-port",
    "collector.http-server.host-port",
    "admin.http.host-port",
    "query.grpc-server.host-port",
    "http-server.host-port",
)
UDP_FLAGS = (
    "processor.jaeger-compact.server-host-port",
    "processor.jaeger-binary.server-host-port",
    "processor.zipkin-compact.server-host-port",
)
TRACES_MAX = 20_000  # kept in memory, the oldest go


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    query: int = 16686
    otlp_http: int = 4318
    rest: tuple[int, ...] = (4317, 14250, 14268, 14269, 16685, 5778)  # TCP, in the order of FLAGS
    udp: tuple[int, ...] = (6831, 6832, 5775)  # in the order of UDP_FLAGS


class Jaeger(msgspec.Struct, frozen=True, kw_only=True):
    """Of the binary, else of the image."""

    host: str
    binary: str = ""
    image: str = ""
    ports: Ports = Ports()

    @property
    def otlp_endpoint(self) -> str:
        return f"http://{self.host}:{self.ports.otlp_http}"

    @property
    def query_url(self) -> str:
        return f"http://{self.host}:{self.ports.query}"

    def trace_url(self, trace_id: str) -> str:
        return f"{self.query_url}/trace/{trace_id}"

    def program(self, wrap: Wrap = plain) -> Program:
        return Program(
            name=PROGRAM,
            argv=wrap([self.binary, *_flags(self.host, self.ports)]),
            env={"PATH": path_env()} | ENV,
            ready=f"port:{self.host}:{self.ports.otlp_http}",
            ready_seconds=20,
        )

    def start_container(self, engine: EngineClient, name: str, label: str) -> None:
        """Blocking; one of that name is replaced. An image of Jaeger 2 knows no flags, but keeps to `host` as well."""
        engine.remove_container(name)
        command = [] if _is_v2(self.image) else _flags(self.host, self.ports)
        engine.start_container(name, self.image, command, ENV | {"JAEGER_LISTEN_HOST": self.host}, {label: "jaeger"})


def find_image(engine: EngineClient) -> str:
    """A tag of an image of Jaeger that the engine has; "" if it has none."""
    found = [tag for tag in engine.images_of("jaegertracing/*") if tag.rpartition(":")[0].rpartition("/")[2] in IMAGES]
    return max(found, default="")


def _is_v2(image: str) -> bool:
    return image.rpartition(":")[0].endswith("/jaeger")


def find_binary() -> str | None:
    """On the PATH, or where `go install` puts it."""
    go = [Path(os.environ["GOBIN"])] if os.environ.get("GOBIN") else []
    go += [Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin"]
    for name in BINARIES:
        if found := shutil.which(name) or next((str(d / name) for d in go if os.access(d / name, os.X_OK)), None):
            return found
    return None


def free_ports(host: str) -> Ports:
    """Jaeger's usual ports where they are free, else others."""
    usual = Ports()
    return Ports(
        query=free_port(usual.query, host),
        otlp_http=free_port(usual.otlp_http, host),
        rest=tuple(free_port(port, host) for port in usual.rest),
        udp=tuple(free_port(port, host, socket.SOCK_DGRAM) for port in usual.udp),
    )


def _flags(host: str, ports: Ports) -> list[str]:
    named = [*zip(FLAGS, ports.rest, strict=True), *zip(UDP_FLAGS, ports.udp, strict=True)]
    flags = [f"--{name}={host}:{port}" for name, port in named]
    return [
        *flags,
        f"--collector.otlp.http.host-port={host}:{ports.otlp_http}",
        f"--query.http-server.host-port={host}:{ports.query}",
        f"--memory.max-traces={TRACES_MAX}",
        "--log-level=warn",
    ]
