"""Manifests into what the engine is asked for."""

from typing import Any

import msgspec
import pytest
from tests.unit.node_agent.made import a_pod

from shoal.errors import Invalid
from shoal.node_agent.containers import Files, Ground, Mount, container_body, hostname, oom_score, sandbox_body
from shoal.node_agent.environment import Place
from shoal.node_agent.runtime.port import Image

PLACE = Place(node="n1", host_ip="192.0.2.1", pod_ip="10.208.0.5")
FILES = Files(hosts="/s/hosts", resolv_conf="/s/resolv.conf", hostname="/s/hostname")
GROUND = Ground(
    labels={}, sandbox_image="sandbox:1", place=PLACE, files=FILES, node_memory_bytes=8 << 30, oom_floor=-1000
)


def body(
    container: dict[str, Any] | None = None, *, user: str = "", mounts: tuple[Mount, ...] = (), **spec: Any
) -> Any:
    pod = a_pod(containers=[{"name": "web", "image": "shoal/web"} | (container or {})], **spec)
    return container_body(
        pod,
        pod.spec.containers[0],
        {"l": "v"},
        GROUND,
        sandbox="sb",
        mounts=mounts,
        image=Image(id="sha256:1", user=user),
    )


def sandbox(**spec: Any) -> Any:
    return sandbox_body(a_pod(**spec), {}, GROUND)


def test_command_and_arguments_mean_what_kubernetes_means() -> None:
    made = body({"command": ["run", "$(A)"], "args": ["$(A)", "$$(A)"], "env": [{"name": "A", "value": "x"}]})
    assert (made["Entrypoint"], made["Cmd"], made["Env"]) == (["run", "x"], ["x", "$(A)"], ["A=x"])
    assert "Entrypoint" not in body()
    assert "Cmd" not in body()


def test_a_container_joins_its_sandbox() -> None:
    host = body()["HostConfig"]
    assert (host["NetworkMode"], host["IpcMode"]) == ("container:sb", "container:sb")
    assert "PidMode" not in host
    assert body(shareProcessNamespace=True)["HostConfig"]["PidMode"] == "container:sb"


def test_the_hosts_namespaces() -> None:
    host = body(hostNetwork=True, hostPID=True, hostIPC=True)["HostConfig"]
    assert (host["NetworkMode"], host["PidMode"], host["IpcMode"]) == ("host", "host", "host")
    made = sandbox(hostNetwork=True)
    assert "Hostname" not in made, "the host's own name"
    assert made["HostConfig"]["CapAdd"] == [], "it leaves no network, so it needs no right to"


def test_a_sandbox_has_one_right_and_only_while_it_needs_it() -> None:
    host = sandbox()["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["NetworkMode"]) == (["ALL"], ["SYS_ADMIN"], "host")
    assert host["ReadonlyRootfs"]
    assert "Init" not in host, "process 1 would stay in the host's network"


def test_resources() -> None:
    limits = {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}
    host = body({"resources": limits})["HostConfig"]
    assert (host["CpuShares"], host["CpuQuota"], host["CpuPeriod"]) == (256, 150_000, 100_000)
    assert host["Memory"] == host["MemorySwap"] == 64 << 20
    host = body()["HostConfig"]
    assert host["CpuShares"] == 2
    assert "Memory" not in host
    assert "CpuQuota" not in host
    assert body({"resources": {"limits": {"cpu": "1m"}}})["HostConfig"]["CpuQuota"] == 1000, "what the kernel takes"


def score(resources: dict[str, Any]) -> int:
    pod = a_pod(containers=[{"name": "web", "image": "i", "resources": resources}])
    return oom_score(pod, pod.spec.containers[0], 8 << 30)


def test_who_goes_first_when_memory_runs_out() -> None:
    guaranteed = {"cpu": "1", "memory": "1Gi"}
    assert score({"limits": guaranteed, "requests": guaranteed}) == -997
    assert score({}) == 1000
    assert score({"requests": {"memory": "4Gi"}}) == 500
    assert score({"requests": {"memory": "8Gi"}}) == 3
    assert score({"requests": {"memory": "1"}}) == 999


def test_security() -> None:
    made = body(
        {
            "securityContext": {
                "runAsUser": 7,
                "runAsGroup": 8,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "seccompProfile": {"type": "Unconfined"},
            }
        },
        securityContext={"supplementalGroups": [5], "fsGroup": 6},
    )
    host = made["HostConfig"]
    assert made["User"] == "7:8"
    assert host["GroupAdd"] == ["5", "6"]
    assert (host["CapAdd"], host["CapDrop"]) == (["NET_ADMIN"], ["ALL"])
    assert host["ReadonlyRootfs"]
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined", "label=disable"]
    assert body({"securityContext": {"privileged": True}})["HostConfig"]["Privileged"]


@pytest.mark.parametrize(
    ("user", "asked", "refused"),
    [
        ("", {"runAsNonRoot": True}, "will run as root"),
        ("root:x", {"runAsNonRoot": True}, "will run as root"),
        ("app", {"runAsNonRoot": True}, "non-numeric user"),
        ("1000:0", {"runAsNonRoot": True}, ""),
        ("", {"runAsNonRoot": True, "runAsUser": 5}, ""),
        ("1000", {"runAsNonRoot": True, "runAsUser": 0}, "breaks non-root policy"),
        ("", {}, ""),
    ],
)
def test_who_may_run_as_root(user: str, asked: dict[str, Any], refused: str) -> None:
    if refused:
        with pytest.raises(Invalid, match=refused):
            body({"securityContext": asked}, user=user)
    else:
        body({"securityContext": asked}, user=user)


def targets(made: Any) -> list[str]:
    return [m["Target"] for m in made["HostConfig"]["Mounts"]]


def test_the_pods_own_files_are_bound_over_the_engines_unless_the_manifest_has_others() -> None:
    assert targets(body()) == ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"]
    own = Mount(source="/x", target="/etc/hosts")
    assert targets(body(mounts=(own,))) == ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"]
    assert targets(body(mounts=(Mount(source="/x", target="/etc/"),))) == ["/etc/"]


def test_sysctls_go_where_they_count() -> None:
    wanted = [{"name": "kernel.msgmax", "value": "9000"}, {"name": "net.core.somaxconn", "value": "9"}]
    assert sandbox(securityContext={"sysctls": wanted})["HostConfig"]["Sysctls"] == {"kernel.msgmax": "9000"}


def test_a_name_of_any_length_is_a_host_name() -> None:
    long = a_pod(metadata={"name": "a" * 62 + "-b"})
    assert hostname(long) == "a" * 62
    assert hostname(a_pod(hostname="given")) == "given"


def test_one_port_of_a_pod_may_have_many_of_the_host() -> None:
    def port(number: int) -> list[dict[str, Any]]:
        return [{"containerPort": 80, "hostPort": number}]

    containers = [{"name": f"c{n}", "image": "i", "ports": port(n)} for n in (8080, 8081)]
    made = sandbox_body(a_pod(containers=containers), {}, msgspec.structs.replace(GROUND, network="net"))
    assert [b["HostPort"] for b in made["HostConfig"]["PortBindings"]["80/tcp"]] == ["8080", "8081"]
