"""The Generate step: a provider that answers at once, with the files themselves, streamed into the bucket.

None of them takes an idempotency key, so a call whose answer was lost is not repeated: it may have been paid for. If
the files are there (they are written before the job is), the job goes on with them; else it fails, its hold goes back,
and the operator is told.

An attempt is claimed by the last write before the call, so whatever fails or dies earlier has called nobody and is
simply done again. A process that dies between that write and the call leaves what one that dies during the call leaves:
nobody can tell them apart, and a mark more would only move the gap.
"""

from dataclasses import dataclass, replace

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.jobs import catalog, decide, inputs, store, table, view
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.media import assets
from shared.media.assets import Asset, BadOutput
from shared.providers import keys
from shared.providers.breaker import guarded
from shared.providers.outcomes import (
    Ambiguous,
    Generation,
    NothingCreated,
    Output,
    Permanent,
    Prediction,
    Submission,
)
from shared.providers.registry import generator


def generate(job: Job) -> Step:
    """Call the provider once, keep what it answers, then settle."""
    now = current_time()
    if job.terminal:
        return Step("done")
    if job.result is not None:
        return Step("settle" if job.assets else "store")
    if job.attempt == "open":
        if now < job.attempt_at + decide.GENERATE_LIMIT_S:
            return Step("generate_again", wait_seconds=60)
        return _reconcile(job)
    if job.attempt == "unknown":
        return _reconcile(job)
    return decide.without_prediction(job, now) or _attempt(Attempt(job))


class Taken(Exception):
    """Somebody else has this attempt, or the job has ended."""


@dataclass
class Attempt:
    """The next attempt of a job, and the job as it is."""

    job: Job
    claimed: bool = False

    def claim(self) -> Job:
        """The job with its attempt open, from when the provider is first called. Raises Taken."""
        if not self.claimed:
            try:
                self.job, self.claimed = table.claim_attempt(self.job, current_time()), True
            except Refused as refused:
                raise Taken from refused
        return self.job


def _attempt(attempt: Attempt) -> Step:
    job = attempt.job
    try:
        kept, told = _call(attempt)
    except Taken:
        logger.info("somebody else has this attempt")
        return Step("done")
    except NothingCreated as error:
        logger.warning("provider has taken nothing", code=error.code, reason=error.detail)
        count("SubmitRetried", provider=job.provider)
        try:
            job = table.requeue(attempt.job, current_time()) if attempt.claimed else job
        except Refused:
            # Part of the work is done and paid for; what is missing was refused for too long.
            return Step("fail", ending="failed", failure=error.failure)
        left = job.deadline_at - current_time()
        step = decide.backoff(job.attempts, scale=settings().time_scale, asked=error.retry_after, left=left)
        return replace(step, next="generate_again")
    except Permanent as error:
        return Step("fail", ending="failed", failure=error.failure)
    except Ambiguous as error:
        logger.error("the answer is lost, and may be paid for", provider=job.provider, reason=error.detail)
        count("OutcomeUnknown", provider=job.provider)
        return decide.unknown_outcome()
    except BadOutput as error:
        count("BadOutput", provider=job.provider)
        logger.error("a paid answer cannot be used", provider=job.provider, reason=error.detail)
        return fail("failed", "bad_output", f"The provider's result cannot be used: {error.detail}.")
    return _done(job, kept, told)


def _done(job: Job, kept: list[Asset], told: Prediction) -> Step:
    store.keep_inputs(job)
    try:
        table.generated(job, told, [view.summary(asset) for asset in kept], current_time())
    except Refused:
        logger.info("the job has ended meanwhile")
        return Step("done")
    return Step("settle")


def _call(attempt: Attempt) -> tuple[list[Asset], Prediction]:
    """Every file of one call as an asset, and what the provider says it has cost.

    Raises ProviderError, BadOutput and Taken.
    """
    job = attempt.job
    model = catalog.find(job.model)
    handed_on = inputs.handed_on(job.request, job.input_keys)
    submission = Submission(job.id, job.provider_model, model.provider_input(handed_on))
    return keys.with_one(job.provider, lambda key: guarded(job.provider, lambda: _stream(attempt, key, submission)))


def _stream(attempt: Attempt, key: str, submission: Submission) -> tuple[list[Asset], Prediction]:
    if attempt.job.kind == "analysis":
        from shared.jobs import analyse

        job = attempt.claim()
        return analyse.analyse(job, key, begun=lambda: table.generating(job, keys.fingerprint(key), current_time()))
    module = generator(attempt.job.provider)
    connection = module.connection(key)
    job = attempt.claim()
    with module.generate(connection, submission) as generation:
        table.generating(job, keys.fingerprint(key), current_time())
        kept = [
            store.named(job, number, file) if isinstance(file, Output) else store.streamed(job, number, file)
            for number, file in enumerate(generation.files)
        ]
        if not kept:
            raise BadOutput("it has no file", worth_retrying=False)
        return kept, _told(generation)


def _told(generation: Generation) -> Prediction:
    return Prediction(
        id=generation.request_id or "none",
        status="succeeded",
        units=generation.units,
        cost_usd=generation.cost_usd,
    )


def _reconcile(job: Job) -> Step:
    """An attempt whose outcome nobody has written: go on with its files if all of them are there."""
    expected = int(job.request.get("count", 1))
    found = [assets.find(store.asset_id(job, number), account=job.account) for number in range(expected)]
    kept = [asset for asset in found if asset is not None]
    if len(kept) == expected:
        logger.warning("found the files of a lost attempt", files=len(kept))
        return _done(job, kept, Prediction(id="none", status="succeeded"))
    logger.error("an attempt was lost, and may be paid for", provider=job.provider)
    count("OutcomeUnknown", provider=job.provider)
    return decide.unknown_outcome()
