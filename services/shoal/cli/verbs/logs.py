"""Print what containers wrote, or follow it.

Of one pod: its container, or the one that -c names. By label, and with --all-containers or --all-pods, of several at
once; each line begins with where it is from with --all-pods, or with --prefix.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from shoal.cli import terminal
from shoal.cli.arguments import Parser, UsageError, add_selector, duration_s
from shoal.cli.containers import container_of, one_pod, pods_by_label, pods_named
from shoal.cli.context import Context
from shoal.cli.failure import Failed, sentences
from shoal.errors import NotFound, ShoalError
from shoal.model.pod import Pod
from shoal.wire import LogsRequest

if TYPE_CHECKING:
    from shoal.client import Client, Session

USAGE = "(POD | TYPE/NAME | -l LABELS) [flags]"
EXAMPLES = """
shoal logs web                        all that is kept
shoal logs -f web --tail=20           the last lines, and on
shoal logs web -c db --previous       of the run before a restart
shoal logs -f -l app=web --prefix     of all with that label, each line with where it is from
shoal logs rs/web --since=5m
"""
BY_LABEL_TAIL = 10  # kubectl's
STDOUT, STDERR = 1, 2


def arguments(parser: Parser) -> None:
    add_selector(parser)
    parser.value("-c", "--container", default="", metavar="NAME", help="this container")
    parser.flag("--all-containers", help="all containers of the pod, init containers too")
    parser.flag("--all-pods", help="with TYPE/NAME: all its pods, not one of them")
    parser.flag("-f", "--follow", help="go on with what is written, until it ends or ^C")
    parser.flag("-p", "--previous", help="of the run before this one")
    parser.value("--tail", type=int, default=None, metavar="LINES", help="only the last lines; -1 all (with -l 10)")
    parser.value("--since", type=duration_s, default=None, metavar="TIME", help="not older than this: 10s, 5m, 2h")
    parser.value("--since-time", default="", metavar="TIME", help="not older than this moment (RFC 3339)")
    parser.flag("--timestamps", help="each line with its time")
    parser.value("--limit-bytes", type=int, default=None, metavar="BYTES", help="stop after so many")
    parser.flag("--prefix", default=None, help="begin each line with pod and container (default with --all-pods)")
    parser.flag("--ignore-errors", help="one that cannot be read does not stop the others")


class Source(msgspec.Struct, frozen=True):
    pod: str
    container: str

    @property
    def prefix(self) -> bytes:
        return f"[pod/{self.pod}/{self.container}] ".encode()


async def run(context: Context, args: argparse.Namespace) -> int:
    if args.selector and args.names:
        raise UsageError("a name and a selector exclude each other")
    if args.since is not None and args.since_time:
        raise UsageError("--since and --since-time exclude each other")
    words = list(args.names)
    if len(words) == 2 and "/" not in words[0] and not args.container:
        args.container = words.pop()  # `logs web db`, as kubectl
    namespace = context.namespace(args)
    context.flush()
    async with context.connect() as cluster:
        sources = await _sources(cluster, context, args, namespace, words)
        prefix = args.prefix if args.prefix is not None else args.all_pods
        if len(sources) == 1:
            await _copy(cluster, context, args, namespace, sources[0], prefix=prefix)
        else:
            await _copy_all(cluster, context, args, namespace, sources, prefix=prefix)
    return 0


async def _sources(
    cluster: "Client", context: Context, args: argparse.Namespace, namespace: str, words: Sequence[str]
) -> list[Source]:
    if args.selector:
        pods = await pods_by_label(cluster, namespace, args.selector)
        if not pods:
            raise NotFound(f"no pods in {namespace} have the labels {args.selector}")
    elif args.all_pods:
        pods = await pods_named(cluster, namespace, words)
    else:
        pods = [await one_pod(cluster, context, namespace, words)]
    return [Source(pod.metadata.name, name) for pod in pods for name in _containers(context, args, pod)]


def _containers(context: Context, args: argparse.Namespace, pod: Pod) -> list[str]:
    if args.all_containers:
        return [c.name for c in (*pod.spec.init_containers, *pod.spec.containers)]
    return [container_of(context, pod, args.container)]


def request(args: argparse.Namespace, source: Source) -> LogsRequest:
    tail = args.tail if args.tail is not None else BY_LABEL_TAIL if args.selector else -1
    return LogsRequest(
        name=source.pod,
        container=source.container,
        follow=args.follow,
        tail_lines=tail if tail >= 0 else None,
        since_seconds=max(1, round(args.since)) if args.since is not None else None,
        since_time=args.since_time,
        previous=args.previous,
        timestamps=args.timestamps,
        limit_bytes=args.limit_bytes,
    )


async def _copy(
    cluster: "Client", context: Context, args: argparse.Namespace, namespace: str, source: Source, *, prefix: bool
) -> None:
    """The log as it is: both streams to stdout, as kubectl does."""
    async with await cluster.logs(namespace, request(args, source)) as session:
        out = terminal.Output(context.out.fileno(), session.keep)
        lines = Lines(source.prefix if prefix else b"")
        async for chunk in session:
            await out.write(lines.feed(chunk.stream, chunk.data))
        await out.write(lines.rest())


async def _copy_all(
    cluster: "Client",
    context: Context,
    args: argparse.Namespace,
    namespace: str,
    sources: Sequence[Source],
    *,
    prefix: bool,
) -> None:
    """Raises: Failed, after a sentence for each that could not be read, unless --ignore-errors."""
    failed = False
    turn = asyncio.Lock()  # lines of two containers are never mixed

    async def one(source: Source) -> None:
        nonlocal failed
        lines = Lines(source.prefix if prefix else b"", whole=True)
        try:
            async with await cluster.logs(namespace, request(args, source)) as session:
                out = terminal.Output(context.out.fileno(), session.keep)
                async for chunk in session:
                    async with _in_turn(turn, session):
                        await out.write(lines.feed(chunk.stream, chunk.data))
                async with turn:
                    await out.write(lines.rest())
        except ShoalError as error:
            failed = failed or not args.ignore_errors
            for sentence in sentences(error):
                context.note(f"error: pod/{source.pod}, container {source.container}: {sentence}")

    if args.follow:
        async with asyncio.TaskGroup() as tasks:
            for source in sources:
                tasks.create_task(one(source), name=f"logs {source.pod}/{source.container}")
    else:  # one after the other, so that each is in one piece
        for source in sources:
            await one(source)
    if failed:
        raise Failed


@asynccontextmanager
async def _in_turn(turn: asyncio.Lock, session: "Session") -> AsyncIterator[None]:
    """Holds `turn`. While another has it (the reader may rest for long) the session is kept."""
    while True:
        try:
            async with asyncio.timeout(terminal.STALL_S):
                await turn.acquire()
            break
        except TimeoutError:
            await session.keep()
    try:
        yield
    finally:
        turn.release()


class Lines:
    """Puts the prefix before each line. With `whole` only whole lines come out: what is cut waits for its end."""

    def __init__(self, prefix: bytes, *, whole: bool = False) -> None:
        self._prefix = prefix
        self._whole = whole or bool(prefix)
        self._cut: dict[int, bytes] = {}

    def feed(self, stream: int, data: bytes) -> bytes:
        if not self._whole:
            return data
        data = self._cut.pop(stream, b"") + data
        lines = data.splitlines(keepends=True) if b"\r" not in data else data.replace(b"\n", b"\n\0").split(b"\0")
        if lines and not lines[-1].endswith(b"\n"):
            if lines[-1]:
                self._cut[stream] = lines[-1]
            lines.pop()
        return b"".join(self._prefix + line for line in lines)

    def rest(self) -> bytes:
        """What has no end: the last lines of streams that ended without a newline."""
        cut, self._cut = self._cut, {}
        return b"".join(self._prefix + line + b"\n" for line in cut.values())
