"""Creating the prediction at the provider: once, whatever happens to the answer."""

from collections.abc import Callable

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.jobs import catalog, decide, inputs, settle, table, workflow
from shared.jobs.steps import Step
from shared.jobs.table import Job
from shared.providers import keys
from shared.providers.breaker import guarded
from shared.providers.outcomes import (
    Ambiguous,
    NothingCreated,
    Permanent,
    Prediction,
    ProviderError,
    Submission,
    Unsearchable,
)
from shared.providers.registry import predictor

CLOCK_SKEW_S = 300
"""How far the provider's clock may be behind ours when we list what was created since a job was accepted."""


def begin(job: Job) -> Job:
    """The first attempt, within the request: create the prediction, record it, start the workflow that waits for it.

    Whatever the provider answers, the job is accepted: it goes on waiting, goes back to the queue, or ends with its
    hold released, and the caller reads that from the job.
    """
    try:
        job, step = attempt(job)
    except Permanent as error:
        return settle.fail(job, "failed", error.failure)
    workflow.start(job, step)
    return job


def resume(job: Job) -> Step:
    """The workflow's Submit step: find what an earlier attempt may have created, and only then try again."""
    now = current_time()
    if job.terminal:
        return Step("done")
    if job.result is not None:
        return Step("store")
    if job.prediction is not None:
        return Step("await")
    if job.attempt == "open" and now < job.attempt_at + decide.CREATE_LIMIT_S:
        return Step("backoff", wait_seconds=max(1, round(job.attempt_at + decide.CREATE_LIMIT_S - now)))
    if job.attempt in ("open", "unknown"):
        step = _look_up(job, now)
        if step is not None:
            return step
    end = decide.without_prediction(job, now)
    if end is not None:
        return end
    try:
        job = table.claim_attempt(job, now)
    except Refused:
        logger.info("somebody else has this attempt")
        return Step("backoff", wait_seconds=1)
    try:
        return attempt(job)[1]
    except Permanent as error:
        return Step("fail", ending="failed", failure=error.failure)


def _look_up(job: Job, now: float) -> Step | None:
    """What follows from the provider's list after a lost answer; None once it is sure that nothing was created."""
    try:
        found = _found(job)
    except Unsearchable:
        # Only its webhook can tell us of a prediction that was made. Creating another one might be paid for twice.
        if now < job.abandon_at:
            return Step("backoff", wait_seconds=settings().scaled(decide.LONGEST_BACKOFF_S / 5))
        logger.error("it is not known whether the provider has made anything", provider=job.provider)
        count("OutcomeUnknown", provider=job.provider)
        return decide.unknown_outcome()
    except ProviderError as error:
        logger.warning("cannot look the prediction up", reason=error.detail)
        if now >= job.abandon_at:
            return decide.still_running(job, now)
        return decide.backoff(job.attempts, scale=settings().time_scale, asked=error.retry_after, left=60)
    if found is not None:
        prediction, key = found
        logger.info("found the prediction of a lost answer", prediction=prediction.id)
        adopted = _adopt(job, prediction, key)
        return Step("poll" if prediction.ended or adopted is None else "await")
    # What was created a moment ago need not be listed yet.
    if now < job.attempt_at + settings().lookup_grace:
        return Step("backoff", wait_seconds=max(1, round(job.attempt_at + settings().lookup_grace - now)))
    return None


def _found(job: Job) -> tuple[Prediction, str] | None:
    """The job's prediction and the key it was made with, whichever of the pool that was.

    Raises ProviderError when it is not found, and one of the keys could not be asked with.
    """
    provider = predictor(job.provider)
    untold: ProviderError | None = None
    for key in keys.pool(job.provider):
        try:
            connection = provider.connection(key)
            found = provider.find(connection, job.provider_model, job.id, job.accepted_at - CLOCK_SKEW_S)
        except ProviderError as error:
            untold = error
            continue
        if found is not None:
            return found, key
    if untold is not None:
        raise untold
    return None


def attempt(job: Job) -> tuple[Job, Step]:
    """Make the create call of an attempt that is open, and write its outcome down. Raises Permanent."""
    try:
        prediction, key = _create(job)
    except NothingCreated as error:
        logger.warning("provider has taken nothing", code=error.code, reason=error.detail)
        count("SubmitRetried", provider=job.provider)
        job = _unless_known(job, table.requeue)
        return job, _try_again(job, error.retry_after)
    except Ambiguous as error:
        logger.warning("provider's answer is lost", reason=error.detail)
        count("SubmitAmbiguous", provider=job.provider)
        job = _unless_known(job, table.lose_attempt)
        return job, Step("backoff", wait_seconds=settings().scaled(decide.BACKOFF_S))
    return _adopt(job, prediction, key) or job, Step("await")


def _create(job: Job) -> tuple[Prediction, str]:
    """One create call that was not refused for lack of patience, and the key it was made with. Raises ProviderError."""
    provider, model = predictor(job.provider), catalog.find(job.model)
    submission = Submission(
        job_id=job.id,
        model=job.provider_model,
        input=model.provider_input(inputs.handed_on(job.request, job.input_keys)),
        webhook=f"{settings().webhook_url}{job.provider}?job={job.id}",
    )

    def create(key: str) -> tuple[Prediction, str]:
        connection = provider.connection(key)
        return guarded(job.provider, lambda: provider.submit(connection, submission)), key

    return keys.with_one(job.provider, create)


def _adopt(job: Job, prediction: Prediction, key: str) -> Job | None:
    """Make it the job's prediction; None when the job has gone another way, and then nobody pays for this one."""
    try:
        return table.adopt(job.id, prediction, current_time(), key=keys.fingerprint(key))
    except Refused as refused:
        met = table.met(refused)
        if met is not None and met.prediction == prediction.id:
            return met
        logger.error("a prediction too many", prediction=prediction.id, known=met and met.prediction)
        count("SurplusPrediction", provider=job.provider)
        _stop(job, prediction, key)
        return None


def _stop(job: Job, prediction: Prediction, key: str) -> None:
    provider = predictor(job.provider)
    try:
        provider.cancel(provider.connection(key), job.provider_model, prediction.id)
    except ProviderError as error:
        logger.error("could not cancel it", prediction=prediction.id, reason=error.detail)


def _unless_known(job: Job, write: Callable[[Job, float], Job]) -> Job:
    """Write an attempt's end, unless a webhook has brought the prediction meanwhile, or the job is over."""
    try:
        return write(job, current_time())
    except Refused as refused:
        return table.met(refused) or job


def _try_again(job: Job, asked: float | None) -> Step:
    now = current_time()
    return decide.backoff(job.attempts, scale=settings().time_scale, asked=asked, left=job.deadline_at - now)
