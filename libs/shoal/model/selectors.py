"""Label selectors and field selectors: read from kubectl's text, and matched."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shoal.errors import BadRequest
from shoal.model import naming
from shoal.model.meta import LabelSelector, LabelSelectorRequirement, Object
from shoal.model.nearest import did_you_mean
from shoal.model.registry import Kind
from shoal.model.shape import fields

EVERYTHING = LabelSelector()


def matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """An empty selector matches everything, none at all nothing. `NotIn` holds where the label is absent."""
    if selector is None:
        return False
    if any(labels.get(k) != v for k, v in selector.match_labels.items()):
        return False
    return all(_holds(requirement, labels) for requirement in selector.match_expressions)


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False  # of a newer version: matching nothing adopts and deletes nothing


# --- text -----------------------------------------------------------------------------------------------------------

_TERM = re.compile(
    r"\s*(?:"
    r"!\s*(?P<absent>[^\s,=!()]+)"
    r"|(?P<key>[^\s,=!()]+)\s*(?:"
    r"(?P<op>==|=|!=)\s*(?P<value>[^\s,=!()]*)"
    r"|(?P<set>in|notin)\s*\((?P<values>[^()]*)\)"
    r")?"
    r")\s*(?:,|$)"
)


def parse_label_selector(text: str) -> LabelSelector:
    """`app=web,tier!=db,env in (a,b),!legacy,x`. "" selects everything. Raises: BadRequest."""
    return LabelSelector(match_expressions=tuple(_label_terms(text)))


def _label_terms(text: str) -> Iterator[LabelSelectorRequirement]:
    rest = text.strip()
    if rest.endswith(","):
        raise BadRequest(f"the label selector {text!r} ends with a comma")
    while rest:
        found = _TERM.match(rest)
        if not found:
            raise BadRequest(f"cannot read the label selector {text!r} at {rest!r}", hint=_SELECTOR_FORMS)
        yield _requirement(found, text)
        rest = rest[found.end() :]


_SELECTOR_FORMS = "known forms: a=b, a!=b, a in (b,c), a notin (b,c), a, !a"


def _requirement(term: "re.Match[str]", text: str) -> LabelSelectorRequirement:
    key = term["absent"] or term["key"]
    values: tuple[str, ...] = ()
    if term["absent"]:
        operator = "DoesNotExist"
    elif term["op"]:
        operator, values = ("NotIn" if term["op"] == "!=" else "In"), (term["value"],)
    elif term["set"]:
        operator = "In" if term["set"] == "in" else "NotIn"
        values = tuple(v.strip() for v in term["values"].split(","))
    else:
        operator = "Exists"
    if wrong := naming.qualified_name(key):
        raise BadRequest(f"label selector {text!r}: {key!r} {wrong}")
    for value in values:
        if wrong := naming.label_value(value):
            raise BadRequest(f"label selector {text!r}: {value!r} {wrong}")
    return LabelSelectorRequirement(key=key, operator=operator, values=values)


def format_label_selector(selector: LabelSelector | None) -> str:
    """As kubectl prints it: `app=web,tier in (a,b)`; `<none>` for none and for everything."""
    if selector is None or not (selector.match_labels or selector.match_expressions):
        return "<none>"
    terms = [f"{k}={v}" for k, v in sorted(selector.match_labels.items())]
    for requirement in sorted(selector.match_expressions, key=lambda r: r.key):
        values = ",".join(sorted(requirement.values))
        match requirement.operator:
            case "In":
                terms.append(f"{requirement.key} in ({values})")
            case "NotIn":
                terms.append(f"{requirement.key} notin ({values})")
            case "Exists":
                terms.append(requirement.key)
            case _:
                terms.append(f"!{requirement.key}")
    return ",".join(terms)


# --- fields -------------------------------------------------------------------------------------------------------------


class FieldTerm(msgspec.Struct, frozen=True):
    path: str
    equal: bool
    value: str


_COMMON = ("metadata.name", "metadata.namespace")
_SELECTABLE: Mapping[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "ReplicaSet": ("status.replicas",),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Event": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
}


def selectable(kind: Kind) -> tuple[str, ...]:
    """The paths that a field selector may name."""
    return (*_COMMON, *_SELECTABLE.get(kind.kind, ()))


def parse_field_selector(text: str, kind: Kind | None = None) -> tuple[FieldTerm, ...]:
    """`status.phase=Running,metadata.name!=x`; with a kind, only what can be asked of it. Raises: BadRequest."""
    terms = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        found = re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*(.*)", part)
        if not found:
            raise BadRequest(f"cannot read the field selector {part!r}", hint="known forms: a.b=c, a.b!=c")
        terms.append(FieldTerm(found[1], found[2] != "!=", found[3]))
    if kind is not None:
        known = selectable(kind)
        for term in terms:
            if term.path not in known:
                hint = did_you_mean(term.path, known) or f"known are {', '.join(known)}"
                raise BadRequest(
                    f"field label not supported: {kind.resource} cannot be selected by {term.path}", hint=hint
                )
    return tuple(terms)


def field_matches(terms: tuple[FieldTerm, ...], obj: Object) -> bool:
    return all((field_text(obj, term.path) == term.value) == term.equal for term in terms)


def field_text(obj: Object, path: str) -> str:
    """A field's value as a selector compares it; "" for what is not there."""
    if path == "source":
        path = "source.component"
    value: Any = obj
    for step in path.split("."):
        if not isinstance(value, msgspec.Struct) or (field := fields(type(value)).get(step)) is None:
            return ""
        value = getattr(value, field.name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
