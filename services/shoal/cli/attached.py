"""A process on the other side, joined to this terminal: exec and attach."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress

import msgspec

from shoal.cli import terminal
from shoal.cli.cluster import Session
from shoal.cli.context import Context
from shoal.cli.terminal import Output
from shoal.wire import ExecRequest

STDERR = 2


def wants_terminal(context: Context, args: argparse.Namespace) -> bool:
    """-t, where there is a terminal to give (as kubectl, which goes on without)."""
    if args.tty and args.stdin and not terminal.is_terminal(context.stdin.fileno()):
        context.note("Unable to use a TTY - input is not a terminal or the right kind of file")
        return False
    return bool(args.tty)


async def joined(context: Context, start: Callable[[ExecRequest], Awaitable[Session]], request: ExecRequest) -> int:
    """Until the process ends; its exit code. Raises: ShoalError; BrokenPipeError if nobody reads."""
    context.flush()
    stdin = context.stdin.fileno() if request.stdin or request.tty else -1
    stdout, stderr = context.out.fileno(), context.err.fileno()
    window = next((fd for fd in (stdout, stdin, stderr) if fd >= 0 and terminal.is_terminal(fd)), -1)
    width, height = terminal.size(window)
    async with await start(msgspec.structs.replace(request, width=width, height=height)) as session:
        with ExitStack() as stack:
            if request.tty and window >= 0:
                stack.enter_context(terminal.resizing(window, session.resize))
            if request.tty and request.stdin and terminal.is_terminal(stdin):
                stack.enter_context(terminal.raw(stdin))
            typing = asyncio.create_task(terminal.feed(stdin, session), name="stdin") if request.stdin else None
            try:
                await _copy(session, Output(stdout, session.keep), Output(stderr, session.keep))
            finally:
                if typing is not None:
                    typing.cancel()
                    with suppress(asyncio.CancelledError):
                        await typing
    return session.exit_code or 0


async def _copy(session: Session, out: Output, err: Output) -> None:
    async for chunk in session:
        await (err if chunk.stream == STDERR else out).write(chunk.data)
