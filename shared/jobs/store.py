"""The Store step: stream what the provider has made into our bucket, before its links expire."""

from shared.core import ids
from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.jobs import catalog, decide, table, view
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.media import assets, fetch
from shared.media.assets import BadOutput
from shared.media.fetch import AddressRefused, Unreadable
from shared.providers.outcomes import Prediction

AGAIN_AFTER_S = 15


def store(job: Job) -> Step:
    """Keep the result's files as assets, then settle; a result that is none fails the job."""
    now = current_time()
    if job.terminal:
        return _store_late(job)
    step = decide.of_result(job)
    if step.next != "store" or job.result is None:
        return step
    result = job.result
    try:
        job = table.start_storing(job.id, now)
    except Refused:
        logger.info("the job has ended meanwhile")
        return Step("done")
    try:
        _keep(job, result)
    except BadOutput as error:
        count("BadOutput")
        logger.warning("output cannot be stored", reason=error.detail, tries=job.store_attempts)
        if error.worth_retrying and job.store_attempts < decide.STORE_ATTEMPTS:
            return Step("store_again", wait_seconds=settings().scaled(AGAIN_AFTER_S * 2 ** (job.store_attempts - 1)))
        return fail("failed", "bad_output", f"The provider's result cannot be used: {error.detail}.")
    return Step("settle")


def _store_late(job: Job) -> Step:
    """The files of a success that came after the job's end, if there is one."""
    if job.late_result is not None and not job.assets:
        try:
            _keep(job, job.late_result)
            logger.info("late success stored", outputs=len(job.late_result.outputs))
        except BadOutput as error:
            logger.warning("late output cannot be stored", reason=error.detail)
    return Step("done")


def _keep(job: Job, result: Prediction) -> None:
    """Store every output and write the assets to the job. Raises BadOutput."""
    model = catalog.models()[job.model]
    kept = []
    for number, url in enumerate(result.outputs[: model.max_count]):
        try:
            with fetch.download(url, allowed=settings().allowed_private_origins) as download:
                asset = assets.store(
                    download,
                    # The same output of the same job is the same asset, however often it is stored.
                    asset_id=ids.derived("as", job.id, str(number)),
                    account=job.account,
                    job_id=job.id,
                    kind=job.kind,
                    family="image",
                    largest=model.largest_bytes,
                    now=current_time(),
                )
        except AddressRefused as error:
            raise BadOutput(f"its address is refused ({error})", worth_retrying=False) from error
        except Unreadable as error:
            raise BadOutput(str(error)) from error
        kept.append(view.summary(asset))
    table.attach_assets(job.id, kept, current_time())
