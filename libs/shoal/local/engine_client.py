"""The few calls to an engine that bringing one up needs, over its unix socket. Blocking, without any library: the agent
has aiodocker, a supervisor and a command line that must start quickly have this.
"""

import http.client
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from shoal.errors import Unavailable

TIMEOUT_S = 120.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class EngineClient:
    """`path` is the unix socket."""

    def __init__(self, path: str, *, timeout: float = TIMEOUT_S) -> None:
        self.path = path
        self.timeout = timeout

    def call(
        self, method: str, path: str, *, query: Any = (), body: bytes | None = None, accept: tuple[int, ...] = ()
    ) -> Any:
        """The decoded answer (None if it is empty, text if it is none of JSON).

        Raises: Unavailable if the engine does not answer, or refuses with a code that is not in `accept`.
        """
        connection = _UnixConnection(self.path, self.timeout)
        kind = "application/x-tar" if method == "POST" and body and not body.startswith(b"{") else "application/json"
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, body, {"Content-Type": kind})
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"no engine answers on {self.path}: {error}") from error
        finally:
            connection.close()
        decoded = _decode(data)
        if response.status >= 400 and response.status not in accept:
            message = decoded.get("message", "") if isinstance(decoded, dict) else decoded
            raise Unavailable(f"the engine on {self.path} refused {method} {path}: {message}")
        return decoded

    def answers(self) -> bool:
        try:
            self.call("GET", "/_ping")
        except Unavailable:
            return False
        return True

    def info(self) -> dict[str, Any]:
        return dict(self.call("GET", "/info"))

    def has_image(self, reference: str) -> bool:
        return "Id" in (self.call("GET", f"/images/{reference}/json", accept=(404,)) or {})

    def image_labels(self, reference: str) -> Mapping[str, str]:
        found = self.call("GET", f"/images/{reference}/json", accept=(404,)) or {}
        return found.get("Config", {}).get("Labels") or {}

    def tag(self, reference: str, repository: str, tag: str) -> None:
        self.call("POST", f"/images/{reference}/tag", query=[("repo", repository), ("tag", tag)])

    def import_image(self, tar: bytes, repository: str, tag: str, changes: tuple[str, ...]) -> None:
        """One layer from a tar; `changes` are Dockerfile lines (`CMD`, `ENV`, ...)."""
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", c) for c in changes)]
        self.call("POST", "/images/create", query=query, body=tar)

    def images_of(self, repositories: str) -> list[str]:
        """Tags of the images whose repository matches (`jaegertracing/*`)."""
        filters = msgspec.json.encode({"reference": [repositories]}).decode()
        return [
            tag
            for image in self.call("GET", "/images/json", query=[("filters", filters)])
            for tag in image["RepoTags"] or ()
        ]

    def remove_image(self, reference: str) -> None:
        """The tag, and the image with its last one; in use or gone already is fine."""
        self.call("DELETE", f"/images/{reference}", accept=(404, 409))

    def start_container(
        self, name: str, image: str, command: Sequence[str], env: Mapping[str, str], labels: Mapping[str, str]
    ) -> str:
        """In the host's network; its id."""
        body = {
            "Image": image,
            "Cmd": list(command),
            "Env": [f"{key}={value}" for key, value in env.items()],
            "Labels": dict(labels),
            "HostConfig": {"NetworkMode": "host", "RestartPolicy": {"Name": "on-failure"}},
        }
        query = [("name", name)]
        created = str(self.call("POST", "/containers/create", query=query, body=msgspec.json.encode(body))["Id"])
        self.call("POST", f"/containers/{created}/start")
        return created

    def containers(self, **labels: str) -> list[str]:
        """Ids of all containers, running or not, that carry these labels ("" = any value)."""
        query = [("all", "1"), ("filters", _label_filter(labels))]
        return [c["Id"] for c in self.call("GET", "/containers/json", query=query)]

    def remove_container(self, container: str) -> None:
        """By force, with its anonymous volumes; gone already is fine."""
        self.call("DELETE", f"/containers/{container}", query=[("force", "1"), ("v", "1")], accept=(404, 409))

    def networks(self) -> dict[str, list[str]]:
        """Subnets by name."""
        return {
            n["Name"]: [c.get("Subnet", "") for c in (n.get("IPAM") or {}).get("Config") or ()]
            for n in self.call("GET", "/networks")
        }

    def remove_network(self, network: str) -> None:
        self.call("DELETE", f"/networks/{network}", accept=(404,))


def _label_filter(labels: Mapping[str, str]) -> str:
    wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
    return msgspec.json.encode({"label": wanted}).decode()


def _decode(data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data.decode(errors="replace").strip()
