"""Recovery of what was lost: predictions that no job has settled.

Replicate lists what it was asked for: whatever it lists and carries the id of a job of ours is taken as its webhook
would have been, so it is adopted, recorded, or kept as a late success. The other providers list nothing; of them those
jobs are asked about again that timed out with a prediction under way. What belongs to nobody is reported.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shared.core.clock import now as current_time
from shared.core.log import about, count, logger
from shared.jobs import observe, table
from shared.jobs.table import Job
from shared.providers import keys, replicate
from shared.providers.outcomes import Gone, Notice, Prediction, ProviderError
from shared.providers.registry import predictor

LOOK_BACK_S = 3 * 3600
ASK_FOR_S = 24 * 3600
PAGE = 50
ENOUGH_TIME_S = 30
"""As long as one prediction may take: a provider that does not answer, and a few AWS calls."""


@dataclass
class Report:
    """How many predictions were listed or asked about, and what came of them."""

    listed: int = 0
    settled: int = 0
    recovered: int = 0
    nobodys: int = 0
    asked: int = 0
    forgotten: int = 0
    silent: int = 0
    failed: int = 0


def recover(time_left: Callable[[], float]) -> Report:
    """Look through what providers list and what timed out, while `time_left()` (seconds) lasts. A second time there is
    nothing left to recover."""
    report = Report()
    since = current_time() - LOOK_BACK_S
    seen: set[str] = set()  # Keys of one account list the same.
    for key in keys.pool("replicate"):
        try:
            for prediction in replicate.recent(replicate.connection(key), since):
                if time_left() < ENOUGH_TIME_S:
                    break
                if prediction.id not in seen:
                    seen.add(prediction.id)
                    report.listed += 1
                    _try(_take, prediction, report)
        except ProviderError as error:
            logger.warning("cannot list predictions", provider="replicate", reason=error.detail)
            report.silent += 1
    for shard in table.LOST_SHARDS:
        for job_id in table.due(shard, current_time(), limit=PAGE):
            if time_left() > ENOUGH_TIME_S:
                _try(_ask_again, job_id, report)
    logger.info("recovered", **asdict(report))
    count("Recovered", report.recovered)
    count("Orphans", report.nobodys)
    return report


def _try[T](look: Callable[[T, Report], None], what: T, report: Report) -> None:
    """Look at one prediction or job; whatever is wrong with it is no reason to leave the others alone."""
    try:
        look(what, report)
    except Exception:  # noqa: BLE001 It comes again in a quarter of an hour.
        logger.exception("could not look at this one")
        count("RecoverFailed")
        report.failed += 1


def _take(prediction: Prediction, report: Report) -> None:
    """One listed prediction: settled already, ours to recover, or nobody's."""
    job_id = next(iter(parse_qs(urlsplit(prediction.webhook or "").query).get("job", [])), None)
    job = table.get(job_id) if job_id else None
    if job is None or job.provider != "replicate" or (job.prediction not in (None, prediction.id)):
        logger.warning("a prediction of nobody", prediction=prediction.id, job=job_id, known=job and job.prediction)
        report.nobodys += 1
    elif _is_settled(job, prediction) or not _tell(job, prediction):
        report.settled += 1
    else:
        report.recovered += 1


def _is_settled(job: Job, prediction: Prediction) -> bool:
    if job.terminal:
        return job.status == "succeeded" or prediction.status != "succeeded" or job.assets != ()
    return job.prediction == prediction.id and (job.result is not None or not prediction.ended)


def _tell(job: Job, prediction: Prediction) -> bool:
    """Take the prediction as if its webhook had come; whether that was news for the job."""
    with about(job.id, job.request_id):
        observe.deliver(job.id, job.provider, Notice(prediction.id, prediction))
        now = table.get(job.id)
        if now is None or _known(now) == _known(job):
            return False
        logger.warning("recovered a prediction", prediction=prediction.id, status=prediction.status)
        return True


def _known(job: Job) -> tuple[Any, ...]:
    """What a job knows of its prediction."""
    return job.prediction, job.result, job.late_result


def _ask_again(job_id: str, report: Report) -> None:
    """A job that timed out with a prediction under way: its success is kept, its failure ends the asking."""
    job = table.get(job_id)
    if job is None or job.prediction is None:
        return
    report.asked += 1
    provider, key = predictor(job.provider), keys.made_by(job.provider, job.provider_key)
    try:
        found = provider.fetch(provider.connection(key), job.provider_model, job.prediction)
    except Gone:
        found = None
    except ProviderError as error:
        with about(job.id, job.request_id):
            logger.warning("provider does not tell", reason=error.detail)
        report.silent += 1
        return
    if found is not None and found.status == "succeeded":
        report.recovered += _tell(job, found)
    if found is None or found.ended or current_time() > job.abandon_at + ASK_FOR_S:
        table.forget(job.id)
        report.forgotten += 1
