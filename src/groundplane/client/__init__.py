"""The typed SDK over the REST API: `groundplane.Client`."""

from groundplane.client.client import Client
from groundplane.client.requests import request

__all__ = ["Client", "request"]
