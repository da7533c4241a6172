"""A container's environment: `$(NAME)` in values, command and arguments, and fields of its pod. Pure.

The rules of expansion are Kubernetes' (third_party/forked/golang/expansion): `$(NAME)` is the value of NAME if it is
known and stays as it stands if not; `$$` is one dollar, so that `$$(NAME)` is the text `$(NAME)`; anything else is text.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from shoal.errors import Invalid
from shoal.model.container import Container
from shoal.model.pod import Pod


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What only the node knows of a pod."""

    node: str
    host_ip: str
    pod_ip: str


def expand(text: str, lookup: Mapping[str, str]) -> str:
    if "$" not in text:
        return text
    out, at = [], 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            out.append(text[at])
            at += 1
        elif text[at + 1] == "$":
            out.append("$")
            at += 2
        elif text[at + 1] == "(" and (end := text.find(")", at)) > 0:
            name = text[at + 2 : end]
            out.append(lookup.get(name, text[at : end + 1]))
            at = end + 1
        else:
            # An operator without parentheses is text, with what follows it.
            out.append(text[at : at + 2])
            at += 2
    return "".join(out)


def environment(pod: Pod, container: Container, place: Place) -> dict[str, str]:
    """In order: a variable sees those before it, a later one of the same name wins.

    Raises: Invalid for a field that no pod has.
    """
    values: dict[str, str] = {}
    for position, variable in enumerate(container.env):
        source = variable.value_from
        if source is not None and source.field_ref is not None:
            try:
                values[variable.name] = field(pod, source.field_ref.field_path, place)
            except KeyError:
                raise Invalid(
                    f"a pod has no field {source.field_ref.field_path!r}", path=f"env[{position}].valueFrom.fieldRef"
                ) from None
        else:
            values[variable.name] = expand(variable.value, values)
    return values


def expand_all(texts: Iterable[str], values: Mapping[str, str]) -> list[str]:
    return [expand(text, values) for text in texts]


_FIELDS: dict[str, Callable[[Pod, Place], str]] = {
    "metadata.name": lambda pod, _: pod.metadata.name,
    "metadata.namespace": lambda pod, _: pod.metadata.namespace,
    "metadata.uid": lambda pod, _: pod.metadata.uid,
    "metadata.labels": lambda pod, _: _lines(pod.metadata.labels),
    "metadata.annotations": lambda pod, _: _lines(pod.metadata.annotations),
    "spec.nodeName": lambda _, place: place.node,
    "spec.serviceAccountName": lambda pod, _: pod.spec.service_account_name,
    "status.hostIP": lambda _, place: place.host_ip,
    "status.hostIPs": lambda _, place: place.host_ip,
    "status.podIP": lambda _, place: place.pod_ip,
    "status.podIPs": lambda _, place: place.pod_ip,
}


def field(pod: Pod, path: str, place: Place) -> str:
    """Raises: KeyError for a path that is none. A label or annotation that is not there is empty."""
    for prefix, values in (
        ("metadata.labels", pod.metadata.labels),
        ("metadata.annotations", pod.metadata.annotations),
    ):
        if path.startswith(f"{prefix}['") and path.endswith("']"):
            return values.get(path[len(prefix) + 2 : -2], "")
    return _FIELDS[path](pod, place)


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
