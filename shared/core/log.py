"""The structured log of every function, and its metrics. No secret gets into either: the logger itself masks them.

Request and job ids are appended once and stand on every line after. Of a line that is about a job, `request_id` is that
of the request that created it, wherever the line comes from; a process with an id of its own gives that another name.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

NAMESPACE = "Atelier"

MASK = "***"
SHORTEST_SECRET = 8
"""What is shorter is no secret, and would mask words by chance."""

_SHAPES = re.compile(
    r"""
      (?P<scheme>\b(?:[Bb]earer|Basic|Key|Token)\s+)[\w.~+/:=-]{16,}
    | (?P<field>\\?"(?:authorization|xi-api-key|x-goog-api-key|x-api-key|cookie|task_?[tT]oken)\\?":\s*\\?")[^"\\]+
    | (?P<query>[?&;](?:X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential|[Ss]ignature|token|ticket|key)=)[^&"\s\\]+
    | \beyJ[\w-]{8,}\.[\w-]+\.[\w-]*                # a JSON Web Token
    | \b(?:atl|r8|sk|rk|kie|fal|el|gm)_[\w-]{8,}    # API keys: ours, Replicate's, ElevenLabs', those of the local cloud
    | \bsk-[\w-]{8,}                                # OpenAI's
    | \bAIza[\w-]{20,}                              # Google's
    | \bwh(?:sec|sk)_[\w+/=-]{8,}                   # secrets of webhooks
    | \b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9a-f]{16,}  # fal's
    | \bAQ[\w+/]{2}AAAA[\w+/=]{60,}                 # a task token of Step Functions
    """,
    re.VERBOSE,
)

_known: set[str] = set()


def hide(secret: str) -> None:
    """From now on mask this secret wherever it stands, whatever it looks like."""
    if len(secret) >= SHORTEST_SECRET:
        _known.add(json.dumps(secret)[1:-1])


def masked(text: str) -> str:
    """The text without secrets: neither those that were read nor what looks like one."""
    for secret in _known:
        text = text.replace(secret, MASK)
    return _SHAPES.sub(lambda found: (found["scheme"] or found["field"] or found["query"] or "") + MASK, text)


def _line(entry: Any) -> str:
    return masked(json.dumps(entry, default=str, separators=(",", ":"), ensure_ascii=False))


logger = Logger(json_serializer=_line)
"""Its service is the name of the stack (POWERTOOLS_SERVICE_NAME), so that two stacks of an account stay apart."""


@contextmanager
def about(job_id: str, request_id: str | None) -> Iterator[None]:
    """Within the block every line is about this job, and carries the id of the request that created it."""
    before = {name: logger.get_current_keys().get(name) for name in ("job_id", "request_id")}
    logger.append_keys(job_id=job_id, request_id=request_id or before["request_id"])
    try:
        yield
    finally:
        logger.append_keys(**before)


def count(name: str, value: int = 1, **dimensions: str) -> None:
    """Count an event as a CloudWatch metric (embedded metric format: one log line, no call), as a whole and by each of
    the dimensions, which must be few words that are known beforehand."""
    _tell(name, value, MetricUnit.Count, dimensions, {})


def measure(name: str, value: float, unit: MetricUnit, **dimensions: str) -> None:
    """Report a number as `count` does: seconds, dollars, or how many there are."""
    _tell(name, value, unit, dimensions, {})


def gauge(name: str, value: float, **labels: str) -> None:
    """Report a percentage as a CloudWatch metric; the labels stand in its log line."""
    _tell(name, value, MetricUnit.Percent, {}, labels)


def _tell(name: str, value: float, unit: MetricUnit, dimensions: dict[str, str], labels: dict[str, str]) -> None:
    metric = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service=logger.service)
    metric.add_metric(name=name, unit=unit, value=value)
    for dimension, text in dimensions.items():
        metric.add_dimensions(service=logger.service, **{dimension: text})
    keys = logger.get_current_keys()
    ids = {key: keys[key] for key in ("request_id", "job_id") if keys.get(key)}
    for label, text in {**ids, **labels}.items():
        metric.add_metadata(key=label, value=text)
    metric.flush_metrics()
