"""A process on the other side, joined to this terminal: exec and attach."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from shoal.cli import terminal
from shoal.cli.context import Context
from shoal.cli.terminal import Output
from shoal.wire import ExecRequest

if TYPE_CHECKING:
    from shoal.client import Session

STDERR = 2


def wants_terminal(context: Context, args: argparse.Namespace) -> bool:
    """-t, where there is a terminal to give (as kubectl, which goes on without)."""
    if args.tty and args.stdin and not terminal.is_terminal(context.stdin.fileno()):
        context.note("Unable to use a TTY - input is not a terminal or the right kind of file")
        return False
    return bool(args.tty)


async def joined(context: Context, start: Callable[[ExecRequest], Awaitable["Session"]], request: ExecRequest) -> int:
    """Until the process ends; its exit code. Raises: ShoalError; BrokenPipeError if nobody reads; SystemExit."""
    context.flush()
    streams = [context.out, *([context.stdin] if request.stdin or request.tty else []), context.err]
    window = next((s.fileno() for s in streams if terminal.is_terminal(s.fileno())), -1)
    width, height = terminal.size(window)
    sized = msgspec.structs.replace(request, width=width, height=height)
    with terminal.ending_cleanly():
        async with await start(sized) as session, _typing(context, session, sized, window):
            await _copy(context, session)
    return session.exit_code or 0


@asynccontextmanager
async def _typing(context: Context, session: "Session", request: ExecRequest, window: int) -> AsyncIterator[None]:
    """What is typed goes to the session, and the window's size; a terminal is raw as long as this lasts."""
    with ExitStack() as stack:
        if request.tty and window >= 0:
            stack.enter_context(terminal.resizing(window, session.resize))
        if not request.stdin:
            yield
            return
        stdin = context.stdin.fileno()
        if request.tty and terminal.is_terminal(stdin):
            stack.enter_context(terminal.raw(stdin))
        feeding = asyncio.create_task(terminal.feed(stdin, session), name="stdin")
        try:
            yield
        finally:
            feeding.cancel()
            with suppress(asyncio.CancelledError):
                await feeding


async def _copy(context: Context, session: "Session") -> None:
    out, err = (Output(stream.fileno(), session.keep) for stream in (context.out, context.err))
    async for chunk in session:
        await (err if chunk.stream == STDERR else out).write(chunk.data)
