"""What a lab consists of and where each part of it is: paths, addresses, names, programs. Reads and starts nothing."""

from collections.abc import Mapping
from pathlib import Path

from shoal.errors import NotFound
from shoal.local import cluster, engine
from shoal.local.cluster import ClusterSpec
from shoal.local.control import Control
from shoal.local.engine import EngineSpec
from shoal.local.lab_files import BASE, LabRecord, base
from shoal.local.program import Program

NATS_PORT = 4222
KEEPER = "lab/keeper"
CONTROL_PLANE = "control"  # takes the place of a host where its processes are meant
HOST_PARTS = ("engine", "agent", "proxy")


class Places:
    """Of the lab of that record, whether it runs or not."""

    def __init__(self, record: LabRecord) -> None:
        self.record = record
        self.name = record.name
        self.directory = base() / record.name
        self.control = Control(self.directory)

    @property
    def hosts(self) -> list[str]:
        return self.record.plan.hosts

    @property
    def nats_url(self) -> str:
        return self.cluster_spec.nats_url

    def docker_socket(self, host: str) -> str:
        """The path of that host's engine's unix socket, reachable from every namespace."""
        return str(self.engine_spec(self.known(host)).socket)

    def state_dir(self, host: str) -> Path:
        """What the host's agent and proxy keep."""
        return self.engine_spec(self.known(host)).directory / "node"

    def address(self, host: str) -> str:
        return str(self.record.plan.address(self.known(host)))

    def log(self, program: str) -> Path:
        """Of `api`, `h1/agent`, ..."""
        return self.control.log(program)

    def environment(self, host: str = "") -> dict[str, str]:
        """What points a client at this cluster, and with `host` at that host's engine too."""
        found = {"NATS_URL": self.nats_url}
        if self.record.jaeger:
            found["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.record.jaeger.otlp_endpoint
        if host:
            found["DOCKER_HOST"] = f"unix://{self.docker_socket(host)}"
        return found

    @property
    def cluster_spec(self) -> ClusterSpec:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.record.jaeger.otlp_endpoint} if self.record.jaeger else {}
        return ClusterSpec(
            host=str(self.record.plan.nats_address),
            port=NATS_PORT,
            store=self.directory / "store",
            name=f"shoal-{self.name}",
            cluster_cidr=self.record.cluster_cidr,
            extra=traced | self.record.env,
        )

    def engine_spec(self, host: str) -> EngineSpec:
        name = engine.machine_wide(f"shoal-{self.name}-{host}", self.directory, BASE / self.name)
        return EngineSpec(name=name, directory=self.directory / host, hostname=host, own_network=True)

    def known(self, host: str) -> str:
        name = f"h{host}" if host.isdigit() else host
        if name not in self.hosts:
            raise NotFound(f"lab {self.name} has no host {host!r}; it has {', '.join(self.hosts)}")
        return name

    def programs(self, host: str, part: str) -> list[str]:
        """Raises: NotFound for a host or a part that there is not."""
        known = (cluster.NATS, *cluster.CONTROL) if host == CONTROL_PLANE else HOST_PARTS
        prefix = "" if host == CONTROL_PLANE else f"{self.known(host)}/"
        if part != "all" and part not in known:
            raise NotFound(f"{part!r} is no part of {host}; it is one of {', '.join(known)}, all")
        return [f"{prefix}{name}" for name in (known if part == "all" else (part,))]

    def host_programs(self, host: str, keeper_pid: int, env: Mapping[str, str] | None = None) -> list[Program]:
        spec = self.engine_spec(host)
        started = engine.engine(spec, keeper_pid, program=f"{host}/engine", needs=[f"{host}/keeper"])
        return [started, *(self.node_program(host, process, keeper_pid, env) for process in cluster.NODE)]

    def node_program(self, host: str, process: str, keeper_pid: int, env: Mapping[str, str] | None) -> Program:
        spec = self.engine_spec(host)
        return cluster.node(
            self.cluster_spec,
            process,
            program=f"{host}/{process}",
            node=host,
            state=self.state_dir(host),
            socket=str(spec.socket),
            needs=[f"{host}/engine", cluster.NATS],
            extra=env,
            wrap=lambda argv: engine.enter(keeper_pid, argv, own_network=True),
        )
