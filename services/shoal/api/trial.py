"""Read one message from stdin in a process of its own: 0 if it could be read or refused, anything else if it kills."""

import resource
import sys
from contextlib import suppress

MEMORY_MAX = 2 * 2**30
CPU_MAX_S = 45


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX_S, CPU_MAX_S))
    from shoal.errors import ShoalError
    from shoal.model.manifest import parse

    with suppress(ShoalError, UnicodeDecodeError, RecursionError):
        parse(sys.stdin.buffer.read().decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
