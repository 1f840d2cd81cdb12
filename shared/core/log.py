"""The structured log of every function; request and job ids are appended once and stand on every line after."""

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="atelier")
metrics = Metrics(namespace="Atelier", service="atelier")


def count(name: str, value: int = 1) -> None:
    """Count an event as a CloudWatch metric (embedded metric format: one log line, no call)."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()


def gauge(name: str, value: float, **labels: str) -> None:
    """Report a percentage as a CloudWatch metric; the labels stand in its log line."""
    with single_metric(name=name, unit=MetricUnit.Percent, value=value, namespace="Atelier") as metric:
        metric.add_dimension(name="service", value="atelier")
        for label, text in labels.items():
            metric.add_metadata(key=label, value=text)
