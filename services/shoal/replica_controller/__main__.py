"""`python -m shoal.replica_controller [--only NAME[,NAME]]`: what else it needs is in the environment (`shoal.config`)."""

import argparse
import functools

from shoal.controller.process import exit_with
from shoal.replica_controller.service import CONTROLLERS, PROCESS, serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m shoal.replica_controller", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME,...", help=f"some of: {', '.join(CONTROLLERS)}")
    only = [name for name in parser.parse_args().only.split(",") if name]
    exit_with(PROCESS, functools.partial(serve, only=only))
