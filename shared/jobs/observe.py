"""What a provider says of a prediction, by webhook or when asked, written down once and passed on."""

from dataclasses import replace

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.jobs import decide, table, workflow
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.providers import keys
from shared.providers.outcomes import Gone, Notice, Prediction, ProviderError
from shared.providers.registry import predictor


class UnknownJob(LookupError):
    """There is no such job with this provider."""


def deliver(job_id: str, provider: str, notice: Notice) -> None:
    """A webhook's news: record it and wake the workflow. Repeated, reordered and late news change nothing more.

    Raises UnknownJob, and ProviderError when the provider must be asked what its webhook means and does not answer.
    """
    now = current_time()
    logger.append_keys(job_id=job_id)
    prediction = notice.prediction or _reread(job_id, provider, notice)
    try:
        if prediction.ended:
            job = table.record_result(job_id, provider, prediction, now)
            logger.append_keys(request_id=job.request_id)
            workflow.wake(job)
            logger.info("result recorded", prediction=prediction.id, status=prediction.status)
        else:
            logger.append_keys(request_id=table.adopt(job_id, prediction, now).request_id)
    except Refused as refused:
        met = table.met(refused)
        if met is None or met.provider != provider:
            raise UnknownJob(job_id) from refused
        logger.append_keys(request_id=met.request_id)
        _not_news(met, prediction, now)


def _reread(job_id: str, provider: str, notice: Notice) -> Prediction:
    """The provider's own record, where a webhook's signature does not cover what it says."""
    job = table.get(job_id)
    if job is None or job.provider != provider:
        raise UnknownJob(job_id)
    logger.append_keys(request_id=job.request_id)
    module, key = predictor(provider), keys.made_by(provider, job.provider_key)
    return module.fetch(module.connection(key), job.provider_model, notice.prediction_id)


def _not_news(job: Job, prediction: Prediction, now: float) -> None:
    """The job knows this already, has another prediction, or is over."""
    if job.prediction is not None and job.prediction != prediction.id:
        logger.error("webhook of a prediction too many", prediction=prediction.id, known=job.prediction)
        count("SurplusPrediction", provider=job.provider)
    elif job.terminal and job.status != "succeeded" and prediction.status == "succeeded":
        _late(job, prediction, now)
    elif job.result is not None and not job.terminal:
        # The first delivery may have died between writing and waking.
        workflow.wake(job)
    else:
        logger.info("webhook brings nothing new", status=job.status, told=prediction.status)


def _late(job: Job, prediction: Prediction, now: float) -> None:
    """A success after the job's end: its files are kept for the account, and nothing is charged."""
    try:
        job = table.record_late_result(job, prediction, now)
    except Refused:
        logger.info("late success is known already")
    else:
        logger.error("success after the end", ended=job.status, prediction=prediction.id)
        count("LateSuccess", provider=job.provider)
    workflow.start(job, Step("store"), called=f"{job.id}-late")


def poll(job: Job) -> Step:
    """The workflow's Poll step: ask the provider, and decide by what it says and by the job's deadlines."""
    now = current_time()
    if job.terminal:
        return Step("done")
    if job.result is not None:
        return decide.of_result(job)
    if job.prediction is None:
        return Step("submit")
    stop = decide.should_stop(job, now)
    if stop and job.cancel_requested_at is None and job.stopped_at is None:
        job = _note_stop(job, now)
    try:
        prediction = _ask(job, stop=stop)
    except Gone as error:
        logger.error("prediction is gone", prediction=job.prediction)
        return fail("failed", error.code, "The provider no longer knows of this work.")
    except ProviderError as error:
        logger.warning("provider does not tell", reason=error.detail)
        return decide.still_running(job, now)
    if not prediction.ended:
        if prediction.progress is not None and prediction.progress > job.progress:
            _note_progress(job, prediction.progress, now)
        return decide.still_running(job, now)
    return decide.of_result(record(job, prediction))


def look(job: Job) -> bool:
    """The sweeper's question while the workflow waits for a webhook; whether the provider answered.

    What has ended is recorded and the workflow woken. From the deadline on it is woken anyway: its Poll decides.
    """
    if job.status != "processing" or job.prediction is None:
        return True
    if job.result is not None or decide.should_stop(job, current_time()):
        workflow.wake(job)
        return True
    try:
        prediction = _ask(job, stop=False)
    except Gone:
        workflow.wake(job)
        return True
    except ProviderError as error:
        logger.warning("provider does not tell", reason=error.detail)
        return False
    if prediction.ended:
        logger.info("a webhook was lost", prediction=prediction.id, status=prediction.status)
        workflow.wake(record(job, prediction))
    elif prediction.progress is not None and prediction.progress > job.progress:
        _note_progress(job, prediction.progress, current_time())
    return True


def _note_stop(job: Job, now: float) -> Job:
    """The job with the remark that it is we who stop it; a result that came meanwhile is not ours to explain."""
    try:
        return table.note_stop(job, now)
    except Refused as refused:
        return table.met(refused) or job


def record(job: Job, prediction: Prediction) -> Job:
    """The job with the result, whether it is this one or one that a webhook brought meanwhile."""
    try:
        return table.record_result(job.id, job.provider, prediction, current_time())
    except Refused as refused:
        return table.met(refused) or replace(job, result=prediction)


def _note_progress(job: Job, progress: int, now: float) -> None:
    try:
        table.note_progress(job, min(progress, 99), now)
    except Refused:
        logger.info("progress is known already")


def _ask(job: Job, *, stop: bool) -> Prediction:
    """What the provider says of the job's prediction, once it was asked to stop it if `stop`. Raises ProviderError."""
    if job.prediction is None:
        raise Gone("the job has no prediction")
    provider, model = predictor(job.provider), job.provider_model
    connection = provider.connection(keys.made_by(job.provider, job.provider_key))
    prediction = provider.fetch(connection, model, job.prediction)
    if prediction.ended or not stop:
        return prediction
    logger.info("asking the provider to cancel", prediction=prediction.id)
    canceled = provider.cancel(connection, model, prediction.id)
    if canceled is None:
        return prediction
    return canceled if canceled.ended else provider.fetch(connection, model, prediction.id)


def cancel(job: Job) -> Job:
    """Ask the provider to stop the job's prediction; if it has, the workflow ends the job. The job as it is then."""
    if job.prediction is None:
        return job
    try:
        prediction = _ask(job, stop=True)
    except ProviderError as error:
        logger.warning("cancel did not reach the provider; the workflow asks again", reason=error.detail)
        return job
    if prediction.ended:
        job = record(job, prediction)
        workflow.wake(job)
    return job
