"""Join the process that runs in a container: its output from now on, and with -i its stdin."""

import argparse

from shoal.cli.arguments import Parser
from shoal.cli.containers import container_of, one_pod
from shoal.cli.context import Context
from shoal.cli.verbs.execute import add_streams
from shoal.wire import ExecRequest

USAGE = "(POD | TYPE/NAME) [flags]"
EXAMPLES = """
shoal attach web
shoal attach -it web -c shell
"""


def arguments(parser: Parser) -> None:
    add_streams(parser)


async def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.cli.attached import joined, wants_terminal

    tty = wants_terminal(context, args)
    namespace = context.namespace(args)
    async with context.connect() as cluster:
        pod = await one_pod(cluster, context, namespace, args.names)
        name = container_of(context, pod, args.container)
        request = ExecRequest(name=pod.metadata.name, container=name, stdin=args.stdin, stderr=not tty, tty=tty)
        if args.stdin:
            context.note("If you don't see a command prompt, try pressing enter.")
        return await joined(context, lambda sized: cluster.attach(namespace, sized), request)
