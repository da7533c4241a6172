"""Run a command in a container, with its output here, and end with its exit code.

-i passes stdin on, -t gives the command a terminal; for a shell take both.
"""

import argparse

from shoal.cli.arguments import Parser, UsageError
from shoal.cli.containers import container_of, one_pod
from shoal.cli.context import Context
from shoal.wire import ExecRequest

USAGE = "(POD | TYPE/NAME) [flags] -- COMMAND [ARGUMENT…]"
EXAMPLES = """
shoal exec web -- ls -l /
shoal exec -it web -- sh                   a shell
shoal exec web -c db -- pg_isready         in one of several containers
shoal exec -i web -- tar xf - < files.tar
"""


def arguments(parser: Parser) -> None:
    add_streams(parser)
    parser.flag("-q", "--quiet", help="only what the command says")


def add_streams(parser: Parser) -> None:
    parser.value("-c", "--container", default="", metavar="NAME", help="in this container")
    parser.flag("-i", "--stdin", help="pass stdin on")
    parser.flag("-t", "--tty", help="stdin is a terminal")


async def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.cli.attached import joined, wants_terminal

    if not args.after:
        raise UsageError("write the command behind --, such as: shoal exec web -- ls")
    if not args.names:
        raise UsageError("name the pod before --, such as: shoal exec web -- ls")
    tty = wants_terminal(context, args)
    namespace = context.namespace(args)
    async with context.connect() as cluster:
        pod = await one_pod(cluster, context, namespace, args.names)
        request = ExecRequest(
            name=pod.metadata.name,
            container=container_of(context, pod, args.container),
            command=args.after,
            stdin=args.stdin,
            stderr=not tty,
            tty=tty,
        )
        code = await joined(context, lambda sized: cluster.exec(namespace, sized), request)
    if code and not args.quiet:
        context.note(f"command terminated with exit code {code}")
    return code
