"""The ids of the log on the trace: an X-Ray subsegment with request and job id as annotations, which X-Ray can search.

    with noted("step"):
        ...

It is the one packet that the X-Ray SDK would send, without the SDK, whose import a cold start would pay for. Nothing
else of a request gets into a trace. Format: "AWS X-Ray segment documents" in AWS's documentation.
"""

import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from shared.core.log import logger
from shared.core.settings import tracing

PROTOCOL = '{"format": "json", "version": 1}\n'
ANNOTATIONS = ("request_id", "job_id", "webhook_request_id")


@contextmanager
def noted(name: str) -> Iterator[None]:
    """The block as a subsegment of this invocation, if it is traced and sampled."""
    begun = time.time()
    try:
        yield
    finally:
        _send(name, begun, time.time())


def _send(name: str, begun: float, ended: float) -> None:
    daemon, trace = tracing()
    header = dict(part.split("=", 1) for part in trace.split(";") if "=" in part)
    if not daemon or header.get("Sampled") != "1" or not {"Root", "Parent"} <= header.keys():
        return
    keys = logger.get_current_keys()
    document = {
        "name": name,
        "id": secrets.token_hex(8),
        "trace_id": header["Root"],
        "parent_id": header["Parent"],
        "type": "subsegment",
        "start_time": begun,
        "end_time": ended,
        "annotations": {key: str(keys[key]) for key in ANNOTATIONS if keys.get(key)},
    }
    host, _, port = daemon.rpartition(":")
    # A trace is worth no failure.
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon_socket:
        daemon_socket.sendto((PROTOCOL + json.dumps(document)).encode(), (host, int(port)))
