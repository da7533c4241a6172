"""What a person's program asks of a cluster, typed: `Client(bus, user="admin")`."""

from shoal.client.client import Client
from shoal.client.session import Session

__all__ = ["Client", "Session"]
