"""`python -m shoal.scheduler`: what it needs is in the environment (`NATS_URL` and its like, `shoal.config`)."""

from shoal.controller.process import exit_with
from shoal.scheduler.service import serve

if __name__ == "__main__":
    exit_with("scheduler", serve)
