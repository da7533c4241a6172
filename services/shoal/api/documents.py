"""Applying the documents of one message: read whole, refused whole, then written document by document.

    text ─parse─▶ documents ─plan─▶ what each would do ──any refused?──▶ the whole is refused, nothing is written
                                                        └─────────────▶ commit, chunk by chunk, in order

Documents that do not touch the same object share a batch (they are decided on one view); when a batch is refused its
documents are decided again one by one. The cursor of a published message moves in the batch of the documents it counts.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from shoal.api import admission
from shoal.api.admission import CREATED, UNCHANGED, Admission
from shoal.api.live import Live
from shoal.api.writing import TRIES, Writer, put
from shoal.errors import (
    BadRequest,
    Conflict,
    Deposed,
    Forbidden,
    Invalid,
    NotFound,
    ShoalError,
    Unavailable,
    to_status,
)
from shoal.model.manifest import Document, parse
from shoal.model.registry import key_of
from shoal.names import ObjectKey
from shoal.store.records import Change, Fence
from shoal.store.stored import Stored
from shoal.store.view import View
from shoal.telemetry.trace import span
from shoal.wire import ApplyReply, DocumentResult

DEFAULT_NAMESPACE = "default"
CHUNK = 100
LARGE_BYTES = 8192  # beyond this the loop would stand still for too long: a thread reads it
EVENTS_MAX = 600_000  # of YAML (a value, a key, the begin of a map): half a second; 4 MB of real manifests have half
BREATHE_EVERY = 16
DOCUMENTS_MAX = 5000  # in one message

FAILED = "failed"


class Planned(msgspec.Struct, frozen=True):
    """What one document would do. Exactly one of `admission` and `error` is set."""

    document: Document
    key: ObjectKey
    live: Stored[Any] | None = None
    admission: Admission | None = None
    error: ShoalError | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a message has been applied: results of the documents so far, one letter each (`c`reated, con`f`igured,
    `u`nchanged, `x`: failed).
    """

    letters: str = ""

    def result(self, i: int) -> str:
        return {"c": CREATED, "f": admission.CONFIGURED, "u": UNCHANGED}.get(self.letters[i], FAILED)

    def then(self, results: Sequence[DocumentResult]) -> "Progress":
        letters = {CREATED: "c", admission.CONFIGURED: "f", UNCHANGED: "u"}
        return Progress(self.letters + "".join(letters.get(r.result, "x") for r in results))


class Whole(msgspec.Struct, frozen=True):
    """How a message's writes are tied to it: the leader's fence, and the change that records its progress."""

    fence: Fence | None = None
    cursor: Callable[[Progress], Change] | None = None


class Refusal(ShoalError):
    """The message as a whole is refused. `about`: the first object that is to blame, if it is known."""

    def __init__(self, error: ShoalError, about: ObjectKey | None = None) -> None:
        super().__init__(error.message, path=error.path, hint=error.hint)
        self.error = error
        self.about = about


async def read(
    text: str | bytes, namespace: str, *, wanted: str = "", source: str = "", ignore_unknown: bool = False
) -> list[Document]:
    """`namespace`: the subject's; every document must lie there. "": they name their own, or lie in `wanted`.

    Raises: Refusal.
    """

    def parsed(whole: str) -> list[Document]:
        return parse(whole, source=source, namespace=namespace or wanted, ignore_unknown=ignore_unknown)

    def parsed_with_care(whole: str) -> list[Document]:
        _check_size(whole)
        return parsed(whole)

    try:
        if isinstance(text, bytes):
            text = _text(text)
        large = len(text) > LARGE_BYTES
        documents = await asyncio.to_thread(parsed_with_care, text) if large else parsed(text)
        _check_scope(documents, namespace)
    except ShoalError as error:
        raise Refusal(error) from error
    except RecursionError as error:
        raise Refusal(BadRequest("the text is nested too deeply")) from error
    return documents


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the text is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None


def _check_size(text: str) -> None:
    """Counted before anything is built: a small text can be millions of values. Raises: BadRequest."""
    import yaml

    try:
        for count, _ in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
            if count > EVENTS_MAX:
                raise BadRequest("the message has too many values to be a manifest")
    except yaml.YAMLError:
        return  # the parser proper says what is wrong


def _check_scope(documents: Sequence[Document], namespace: str) -> None:
    """Raises: BadRequest for an empty message, Forbidden for a document beyond the subject's namespace."""
    if not documents:
        raise BadRequest("there is no document in this message")
    if len(documents) > DOCUMENTS_MAX:
        raise BadRequest(f"{len(documents)} objects in one message; {DOCUMENTS_MAX} at most")
    for document in documents:
        if namespace and not document.kind.namespaced:
            raise Forbidden(
                f"{_place(document)}: a {document.kind.kind} lies in no namespace, and this subject allows {namespace} alone"
            )


def _place(document: Document) -> str:
    return f"document {document.document}, line {document.line}"


class Applier:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._live: Live = writer.live

    async def apply(
        self,
        documents: Sequence[Document],
        *,
        dry_run: bool = False,
        begun: Progress = Progress(),  # noqa: B008  (frozen)
        whole: Whole = Whole(),  # noqa: B008
        traceparent: str = "",
    ) -> ApplyReply:
        """`begun`: what an earlier delivery of the same message did; it is not done again.

        Raises: Refusal (nothing was written), Deposed, Unavailable (what was written is in the cursor).
        """
        await self._live.newest()
        results = [self._earlier(d, begun.result(i)) for i, d in enumerate(documents[: len(begun.letters)])]
        left = list(documents[len(results) :])
        with span("admit", parent=traceparent, documents=len(documents)) as admit:
            planned = await self._plan(left)
            if not results and (bad := next((p for p in planned if p.error is not None), None)) is not None:
                raise Refusal(_all_errors(planned), bad.key)
        if dry_run:
            return ApplyReply(results=[_result(p, 0) for p in planned], traceparent=admit.traceparent)
        one_by_one, attempt = 0, 0
        while left:
            chunk = _chunk(planned, 1 if one_by_one else CHUNK)
            try:
                done = await self._commit(chunk, begun, whole, admit.traceparent)
            except Conflict as error:
                attempt += 1
                if attempt > TRIES:
                    done = [_failed(chunk[0], error)]
                else:
                    one_by_one = one_by_one or len(chunk)
                    await self._writer.again(attempt)
                    planned = await self._plan(left[: max(one_by_one, 1)])
                    continue
            except ShoalError as error:
                if isinstance(error, Unavailable | Deposed):
                    raise
                if len(chunk) > 1:
                    one_by_one = len(chunk)
                    continue
                done = [_failed(chunk[0], error)]
            attempt, one_by_one = 0, max(0, one_by_one - len(done))
            begun = begun.then(done)
            results += done
            left = left[len(done) :]
            planned = planned[len(done) :]
            if left and (not planned or _touches(planned[0], chunk)):
                planned = await self._plan(left[:CHUNK])
        return ApplyReply(results=results, traceparent=admit.traceparent)

    def _earlier(self, document: Document, result: str) -> DocumentResult:
        key = _key(document)
        stored = self._live.view.get(key)
        found = DocumentResult(
            document=document.number,
            resource=key.resource,
            kind=document.kind.kind,
            namespace=key.namespace,
            name=key.name,
            result=result,
            uid=stored.uid if stored else "",
            revision=stored.version if stored else 0,
        )
        if result == FAILED:
            found.error = to_status(Invalid("refused when this message was read first; the object's events say why"))
        return found

    # --- deciding ----------------------------------------------------------------------------------------------------

    async def _plan(self, documents: Sequence[Document]) -> list[Planned]:
        """Each on the view as it is, and on what the documents before it make."""
        view, now = self._live.view, self._writer.clock.rfc3339()
        made: dict[ObjectKey, Any] = {}
        planned = []
        for i, document in enumerate(documents):
            if i % BREATHE_EVERY == BREATHE_EVERY - 1:
                await asyncio.sleep(0)
            one = self._decide(document, view, made, now)
            if one.admission is not None:
                made[one.key] = one.admission.object
            planned.append(one)
        return planned

    def _decide(self, document: Document, view: View, made: Mapping[ObjectKey, Any], now: str) -> Planned:
        key = _key(document)
        stored = view.get(key)
        if stored is None and view.desired_entry(key) is not None:
            return Planned(document, key, error=unreadable(key, view))
        current = made.get(key) or (stored.object if stored is not None else None)
        try:
            check_namespace(key.namespace, view, made, creating=current is None)
            found = admission.apply(document, current, uid=self._writer.clock.uid(), now=now)
        except ShoalError as error:
            return Planned(document, key, stored, error=error)
        return Planned(document, key, stored, found)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _commit(
        self, chunk: Sequence[Planned], begun: Progress, whole: Whole, traceparent: str
    ) -> list[DocumentResult]:
        writes = [p for p in chunk if p.admission is not None and p.admission.result != UNCHANGED]
        if not writes:
            return [_result(p, 0) for p in chunk]
        spans = [span("write", parent=traceparent, key=str(p.key), namespace=p.key.namespace) for p in writes]
        try:
            changes: list[Change] = [
                put(p.key, p.admission.object, p.live, s.traceparent)
                for p, s in zip(writes, spans, strict=True)
                if p.admission is not None
            ]
            if whole.cursor is not None:
                changes.append(whole.cursor(begun.then([_result(p, 0) for p in chunk])))
            revisions = await self._writer.store.commit(changes, fence=whole.fence)
        except ShoalError as error:
            for s in spans:
                s.error(error)
            raise
        else:
            for s, revision in zip(spans, revisions, strict=False):
                s.set(revision=revision)
        finally:
            for s in spans:
                s.end()
        await self._live.reached(revisions[-1])
        by_key = {p.key: r for p, r in zip(writes, revisions, strict=False)}
        return [_result(p, by_key.get(p.key, 0)) for p in chunk]


def unreadable(key: ObjectKey, view: View) -> ShoalError:
    return ShoalError(
        f"{key} is stored in a form that this version cannot read: {view.unreadable.get(key, '')}".rstrip(": ")
    )


def fit(reply: ApplyReply, size_max: int) -> ApplyReply:
    """The reply in at most so many bytes: without warnings, then with the failed results first and the rest cut off."""
    if len(msgspec.json.encode(reply)) <= size_max:
        return reply
    results = [msgspec.structs.replace(r, warnings=[]) for r in reply.results]
    results.sort(key=lambda r: r.error is None)
    kept: list[DocumentResult] = []
    left = size_max - len(msgspec.json.encode(msgspec.structs.replace(reply, results=[], omitted=len(results))))
    for result in results:
        left -= len(msgspec.json.encode(result)) + 1
        if left < 0:
            break
        kept.append(result)
    return msgspec.structs.replace(reply, results=kept, omitted=len(results) - len(kept))


def check_namespace(namespace: str, view: View, made: Mapping[ObjectKey, Any], *, creating: bool) -> None:
    """`made`: objects decided before, in the same message. Raises: NotFound, Forbidden."""
    if not namespace:
        return
    key = ObjectKey("namespaces", "", namespace)
    stored = view.get(key)
    if stored is None and key not in made:
        raise NotFound(f'namespaces "{namespace}" not found', path="metadata.namespace")
    if creating and stored is not None and stored.deleting:
        raise Forbidden(
            f"unable to create new content in namespace {namespace} because it is being terminated",
            path="metadata.namespace",
        )


def _key(document: Document) -> ObjectKey:
    return key_of(document.object)


def _chunk(planned: Sequence[Planned], most: int) -> list[Planned]:
    """The documents from the first that can share a batch: no object twice."""
    chosen: list[Planned] = []
    keys: set[ObjectKey] = set()
    for one in planned[:most]:
        if one.key in keys:
            break
        keys.add(one.key)
        chosen.append(one)
    return chosen


def _touches(one: Planned, chunk: Sequence[Planned]) -> bool:
    return any(one.key == other.key for other in chunk)


def _result(planned: Planned, revision: int) -> DocumentResult:
    if planned.admission is None:
        return _failed(planned, planned.error or ShoalError("nothing was decided"))
    done = planned.admission
    return DocumentResult(
        document=planned.document.number,
        resource=planned.key.resource,
        kind=planned.document.kind.kind,
        namespace=planned.key.namespace,
        name=planned.key.name,
        result=done.result,
        uid=done.object.metadata.uid,
        revision=revision or (planned.live.version if planned.live is not None else 0),
        warnings=list(done.warnings),
    )


def _failed(planned: Planned, error: ShoalError) -> DocumentResult:
    return DocumentResult(
        document=planned.document.number,
        resource=planned.key.resource,
        kind=planned.document.kind.kind,
        namespace=planned.key.namespace,
        name=planned.key.name,
        result=FAILED,
        error=to_status(error),
    )


def _all_errors(planned: Sequence[Planned]) -> ShoalError:
    """One error for the whole: the first's kind and path, everybody's sentence."""
    bad = [(p, p.error) for p in planned if p.error is not None]
    first = bad[0][1]
    sentences = [f"{_place(p.document)}: {p.document.kind.kind} {p.key.name}: {error}" for p, error in bad[:20]]
    if len(bad) > 20:
        sentences.append(f"and {len(bad) - 20} more")
    kind = Invalid if isinstance(first, Invalid) else type(first)
    return kind("\n".join(sentences), path=first.path)
