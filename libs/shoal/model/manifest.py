"""From text to objects: read, checked strictly, filled and validated; every problem of a message is found.

The steps, each in a module of its own: `yamltext` (text → values and lines), `structure` (form: unknown fields, types,
known values), `defaults` (what Kubernetes fills in), msgspec (values → structs), `validation` (rules).
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.errors import Invalid
from shoal.model.defaults import fill, fold
from shoal.model.meta import Object
from shoal.model.problem import HINTS_MAX, PROBLEMS_MAX, ROOT, ManifestErrors, Path, Problem, clipped, shown
from shoal.model.registry import KINDS, Kind, kind_of
from shoal.model.shape import StructOf
from shoal.model.structure import Structure
from shoal.model.validation import check
from shoal.names import LAST_APPLIED

if TYPE_CHECKING:
    from shoal.model.yamltext import YamlDocument

Json = dict[str, Any]

DEFAULT_NAMESPACE = "default"

# What the server alone sets: a file made by `get -o yaml` carries it, and it says nothing about what is wanted.
SERVER_SET = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


class Document(msgspec.Struct, frozen=True):
    """One object of a message.

    `number`: its place among the objects of the message, from 1. `document`, `line`: where in the text it begins (the
    items of a List share their document). `object`: decoded, filled, valid. `raw`: what its author said, cleaned, not
    filled: what a three-way apply compares and what goes into the last-applied annotation. `uid` and
    `resource_version` are what the author says to have seen, "" if nothing.
    """

    number: int
    document: int
    line: int
    kind: Kind
    object: Object
    raw: Json
    warnings: tuple[str, ...] = ()
    uid: str = ""
    resource_version: str = ""


def parse(
    text: str, *, source: str = "", namespace: str = "", ignore_unknown: bool = False, need_name: bool = True
) -> list[Document]:
    """Every object in a text of YAML or JSON documents, Lists taken apart. [] for a text without any.

    `namespace`: the one that the sender is held to; "" means the documents name their own, `default` where they do not.
    `ignore_unknown`: unknown and unsupported fields become warnings. `need_name`: generateName will not do (apply).

    Raises: ManifestErrors, with every problem in the order of the text.
    """
    from shoal.model.yamltext import Unreadable, read

    reader = _Reader(source, namespace, ignore_unknown=ignore_unknown, need_name=need_name)
    try:
        wholes = read(text)
    except Unreadable as unreadable:
        wholes = unreadable.before
        reader.problems.append(msgspec.structs.replace(unreadable.problem, source=source))
    for whole in wholes:
        reader.take(whole)
    if reader.problems:
        raise ManifestErrors(sorted(reader.problems, key=lambda p: (p.document, p.line)))
    return reader.documents


def decode_input(
    kind: Kind, data: Mapping[str, Any] | bytes | msgspec.Raw, *, namespace: str = "", need_name: bool = False
) -> Object:
    """One JSON object of a kind that is already known (create, replace, the result of a patch), filled and validated.

    What the server set stays (a patched object keeps its uid); status goes. `namespace`: of the request.

    Raises: ManifestErrors; BadRequest for bytes that are no JSON object.
    """
    document = _json_object(data) if isinstance(data, bytes | msgspec.Raw) else data
    problem = _other_kind(kind, document)
    if problem:
        raise ManifestErrors([problem])
    taken = _take(kind, document, namespace=namespace, ignore_unknown=False, need_name=need_name)
    if taken.object is None:
        raise ManifestErrors(taken.problems)
    return taken.object


def server_set_removed(document: Mapping[str, Any]) -> Json:
    """A copy without status and the metadata that the server sets: what a person said."""
    made = {key: value for key, value in document.items() if key != "status"}
    if isinstance(meta := made.get("metadata"), dict):
        made["metadata"] = meta = {key: value for key, value in meta.items() if key not in SERVER_SET}
        if isinstance(annotations := meta.get("annotations"), dict) and LAST_APPLIED in annotations:
            meta["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return made


# --- a message --------------------------------------------------------------------------------------------------------


class _Reader:
    """Takes a message's documents one by one."""

    def __init__(self, source: str, namespace: str, *, ignore_unknown: bool, need_name: bool) -> None:
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self._source = source
        self._namespace = namespace
        self._ignore_unknown = ignore_unknown
        self._need_name = need_name
        self._hinted = 0

    def take(self, whole: "YamlDocument") -> None:
        for at, value in _objects(whole.value, ROOT):
            if len(self.problems) >= PROBLEMS_MAX:
                return
            if isinstance(value, Problem):
                self.problems.append(self._placed(value, whole, at))
            else:
                self._object(value, whole, at)

    def _object(self, value: Json, whole: "YamlDocument", at: Path) -> None:
        try:
            kind = _kind(value)
        except Invalid as error:
            self.problems.append(self._placed(Problem(error.path, error.message, error.hint), whole, at))
            return
        taken = _take(
            kind,
            server_set_removed(value),
            namespace=self._namespace,
            ignore_unknown=self._ignore_unknown,
            need_name=self._need_name,
            hints=HINTS_MAX - self._hinted,
        )
        self._hinted += len(taken.problems) + len(taken.ignored)
        self.problems += (self._placed(problem, whole, at) for problem in taken.problems)
        if taken.object is None:
            return
        document = Document(
            number=len(self.documents) + 1,
            document=whole.number,
            line=whole.line(at),
            kind=kind,
            object=taken.object,
            raw=taken.raw,
            warnings=tuple(str(self._placed(problem, whole, at)) for problem in taken.ignored),
            uid=_said(value, "uid"),
            resource_version=_said(value, "resourceVersion"),
        )
        self.documents.append(document)

    def _placed(self, problem: Problem, whole: "YamlDocument", at: Path) -> Problem:
        path = f"{at}.{problem.path}" if at and problem.path else at or problem.path
        return msgspec.structs.replace(
            problem, path=path, document=whole.number, line=whole.line(path), source=self._source
        )


def _objects(value: Any, at: Path) -> Iterator[tuple[Path, Json | Problem]]:
    """The objects of one document: itself, or the items of a List (of Lists), an empty document none."""
    if value is None:
        return
    if not isinstance(value, dict):
        yield at, Problem("", f"found {shown(value)}, expected a map with apiVersion, kind and metadata")
    elif not _is_list(value):
        yield at, value
    elif not isinstance(items := value.get("items") or [], list):
        yield at, Problem("items", f"found {shown(items)}, expected a list")
    else:
        of = _kind_of_items(value)
        for index, item in enumerate(items):
            # an API's own PodList leaves out what its items are
            known = {**of, **item} if isinstance(item, dict) else item
            yield from _objects(known if known is not None else "", at / "items" / index)


def _is_list(value: Json) -> bool:
    kind = value.get("kind")
    return (
        isinstance(kind, str)
        and kind.endswith("List")
        and ("items" in value or bool(_kind_of_items(value)) or kind == "List")
    )


def _kind_of_items(value: Json) -> Json:
    name = str(value.get("kind")).removesuffix("List")
    return {"apiVersion": value.get("apiVersion"), "kind": name} if name in {k.kind for k in KINDS} else {}


def _kind(value: Json) -> Kind:
    """Raises: Invalid."""
    for wire, example in (("apiVersion", "v1 or apps/v1"), ("kind", "Pod")):
        found = value.get(wire)
        if not isinstance(found, str) or not found:
            what = "missing" if found in (None, "") else f"found {shown(found)}"
            raise Invalid(f"{what}, expected text such as {example}", path=wire)
    return kind_of(value["apiVersion"], value["kind"])


def _said(value: Json, wire: str) -> str:
    found = value["metadata"].get(wire) if isinstance(value.get("metadata"), dict) else None
    return found if isinstance(found, str) else ""


# --- one object -------------------------------------------------------------------------------------------------------


class _Taken(msgspec.Struct, frozen=True):
    """`object` None: `problems` say why. `ignored`: unknown fields that were let pass."""

    object: Object | None
    raw: Json
    problems: list[Problem]
    ignored: list[Problem]


def _take(
    kind: Kind,
    document: Mapping[str, Any],
    *,
    namespace: str,
    ignore_unknown: bool,
    need_name: bool,
    hints: int = HINTS_MAX,
) -> _Taken:
    structure = Structure(StructOf(kind.type), ignore_unknown=ignore_unknown, hints=hints)
    raw = structure.clean({key: value for key, value in document.items() if key != "status"})
    if structure.full:
        return _Taken(None, raw, structure.problems, structure.ignored)
    fold(raw, kind)
    problems = [*structure.problems, *_namespace_problems(raw, kind, namespace)]
    obj, more = _decode(raw, kind, need_name=need_name)
    known_broken = structure.left_out | structure.meant
    broken = known_broken.union(problem.path for problem in problems)
    problems += (
        problem
        for problem in more[:PROBLEMS_MAX]
        if not _touches(problem.path, broken) and not (problem.beside and _touches(problem.beside, known_broken))
    )
    return _Taken(None if problems else obj, raw, problems, structure.ignored)


def _namespace_problems(raw: Json, kind: Kind, namespace: str) -> list[Problem]:
    """Fills the namespace in."""
    meta = raw.setdefault("metadata", {})
    found = meta.get("namespace")
    if not kind.namespaced:
        return []
    if found and namespace and found != namespace:
        message = f"found {clipped(found)}, expected {clipped(namespace)}, the namespace of the request"
        return [Problem(ROOT / "metadata" / "namespace", message)]
    if not found:
        meta["namespace"] = namespace or DEFAULT_NAMESPACE
    return []


def _decode(raw: Json, kind: Kind, *, need_name: bool) -> tuple[Object | None, list[Problem]]:
    try:
        obj = msgspec.convert(fill(raw, kind), kind.type)
    except msgspec.ValidationError as error:  # only where the structure was refused already
        return None, [Problem("", str(error))]
    return obj, check(obj, need_name=need_name)


def _touches(path: str, broken: AbstractSet[str]) -> bool:
    """A rule's problem at, around or inside a place that was left out is no news."""
    return any(_inside(path, other) or _inside(other, path) for other in broken)


def _inside(path: str, other: str) -> bool:
    return not other or path == other or path.startswith((f"{other}.", f"{other}["))


def _json_object(data: bytes | msgspec.Raw) -> Json:
    from shoal.errors import BadRequest

    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadRequest(f"expected a JSON object: {error}") from error


def _other_kind(kind: Kind, document: Mapping[str, Any]) -> Problem | None:
    for wire, expected in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if document.get(wire) not in (None, "", expected):
            return Problem(wire, f"found {shown(document[wire])}, expected {expected}")
    return None
