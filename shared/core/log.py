"""The structured log of every function; request and job ids are appended once and stand on every line after."""

from aws_lambda_powertools import Logger, Metrics

logger = Logger(service="atelier")
metrics = Metrics(namespace="Atelier", service="atelier")


def count(name: str, value: int = 1) -> None:
    """Count an event as a CloudWatch metric (embedded metric format: one log line, no call)."""
    metrics.add_metric(name=name, unit="Count", value=value)
    metrics.flush_metrics()
