"""The Store step: stream what the provider has made into our bucket, before its links expire."""

from collections.abc import Iterator
from typing import Any

from shared.core import ids
from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.jobs import catalog, decide, table, view
from shared.jobs.catalog import FAMILIES
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.media import assets, captions, fetch, library
from shared.media.assets import Asset, BadOutput, Origin
from shared.media.captions import NoTranscript
from shared.media.fetch import AddressRefused, Unreadable
from shared.providers import keys
from shared.providers.outcomes import File, Output, Prediction, ProviderError
from shared.providers.registry import predictor

AGAIN_AFTER_S = 15
LONGEST_PROMPT = 2000
"""Characters of a prompt that are kept with an asset, to be searched for."""


def store(job: Job) -> Step:
    """Keep the result's files as assets, then settle; a result that is none fails the job."""
    now = current_time()
    if job.terminal:
        return _store_late(job)
    if job.status == "storing" and job.assets:
        return Step("settle")
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
        count("BadOutput", provider=job.provider)
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
    """Store every output and write the assets to the job. Raises BadOutput. Uploads that went in are in use."""
    kept = _transcript(job, result) if FAMILIES[job.kind] == "transcript" else list(_files(job, result))
    keep_inputs(job)
    table.attach_assets(job.id, [view.summary(asset) for asset in kept], current_time())


def _files(job: Job, result: Prediction) -> Iterator[Asset]:
    if not result.outputs:
        raise BadOutput("it names no file", worth_retrying=False)
    for number, output in enumerate(_wanted(job, result)):
        yield named(job, number, output)


def named(job: Job, number: int, output: Output) -> Asset:
    """A file that a provider has named, fetched and kept as the job's asset of this number. Raises BadOutput."""
    try:
        with fetch.download(output.url, allowed=settings().allowed_private_origins) as download:
            return streamed(job, number, File(download.chunks, output.role, download.length))
    except AddressRefused as error:
        raise BadOutput(f"its address is refused ({error})", worth_retrying=False) from error
    except Unreadable as error:
        raise BadOutput(str(error)) from error


def streamed(job: Job, number: int, file: File) -> Asset:
    """A file as it comes, kept as the job's asset of this number. Raises BadOutput."""
    return assets.store(
        file.chunks,
        asset_id(job, number),
        origin(job, file.role),
        length=file.length,
        family=_family(job),
        largest=_largest(job),
        now=current_time(),
    )


def _largest(job: Job) -> int:
    """Bytes: what the model allows; what any does, for one that the catalogue has no more."""
    known = catalog.models()
    models = [known[job.model]] if job.model in known else known.values()
    return max(model.largest_bytes for model in models)


def _wanted(job: Job, result: Prediction) -> tuple[Output, ...]:
    """The outputs that were asked for. Stems are vocals and the rest of the music, whatever the model calls that."""
    if job.kind != "stems":
        model = catalog.models().get(job.model)
        return result.outputs[: max(model.limits.max_count if model else 1, int(job.request.get("count", 1)))]
    vocals = [output for output in result.outputs if "vocal" in output.role and not output.role.startswith("no")]
    others = [output for output in result.outputs if output not in vocals]
    if not vocals or len(others) != 1:
        return result.outputs
    return (Output(vocals[0].url, "vocals"), Output(others[0].url, "accompaniment"))


def _transcript(job: Job, result: Prediction) -> list[Asset]:
    """SRT, VTT and JSON of what the provider has heard, which is asked from it once more: it is too large for a job."""
    data = result.data if result.data != table.INLINE else _again(job, result)
    try:
        transcript = captions.parse(data)
    except NoTranscript as error:
        raise BadOutput(f"it is no transcript: {error}", worth_retrying=False) from error
    written = (
        ("srt", "application/x-subrip", captions.srt(transcript)),
        ("vtt", "text/vtt", captions.vtt(transcript)),
        ("words", "application/json", captions.document(transcript)),
    )
    return [
        assets.store_text(text, content_type, asset_id(job, number), origin(job, role), now=current_time())
        for number, (role, content_type, text) in enumerate(written)
    ]


def _again(job: Job, result: Prediction) -> Any:
    provider = predictor(job.provider)
    connection = provider.connection(keys.made_by(job.provider, job.provider_key))
    try:
        return provider.fetch(connection, job.provider_model, result.id).data
    except ProviderError as error:
        raise BadOutput(error.detail) from error


def origin(job: Job, role: str) -> Origin:
    """Where an asset of the job comes from, with the beginning of what was asked for."""
    prompt = job.request.get("prompt") or job.request.get("text")
    return Origin(job.account, job.id, job.kind, role, prompt=prompt[:LONGEST_PROMPT] if prompt else None)


def keep_inputs(job: Job) -> None:
    """The assets that the job was made from are in use."""
    for name in job.input_keys:
        library.keep(job.request[name], account=job.account)


def asset_id(job: Job, number: int) -> str:
    """The same output of the same job is the same asset, however often it is stored."""
    return ids.derived("as", job.id, str(number))


def _family(job: Job) -> assets.Family:
    """What the files of the job's kind are. Raises ValueError for a kind whose results are no media files."""
    found = FAMILIES[job.kind]
    if found in ("image", "video", "audio"):
        return found
    raise ValueError(f"{job.kind} makes no media files")
