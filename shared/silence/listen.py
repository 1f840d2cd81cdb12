"""The Listen step: what is quiet in a clip becomes a list of cuts and, where that was asked for, is cut out.

All of it is our own work and may be done again, at any point and at the same time. Only the version that takes the cuts
out is saved once: it is saved under the job's id, and the cuts that the job tells are always those of the version
before it.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.errors import Invalid, NotFound, PayloadTooLarge
from shared.core.log import logger
from shared.editor import operations, silence, templates
from shared.editor.silence import Cut, NoSource
from shared.editor.timeline import Document, Silence, Unknown
from shared.jobs import decide, find, store, view
from shared.jobs import table as jobs
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.media import assets, ranged
from shared.media.probe import NotMedia
from shared.projects import edit, table
from shared.projects.table import Project, Repeated, Request
from shared.providers.outcomes import Prediction
from shared.silence import accept
from shared.silence.accept import NothingToHear

type Quiet = list[tuple[float, float]]


class Over(Exception):
    """The job must not be worked on any more."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.next)
        self.step = step


class NothingToCut(Exception):
    """The version that is current now has nothing to take out."""


@dataclass(frozen=True)
class Found:
    """The cuts, the version that they are times of, and the version without them, if it was saved."""

    version: int
    cuts: list[Cut]
    applied: int | None = None


def listen(job: Job) -> Step:
    """Find the cuts, take them out if that was asked for, keep the list as an asset, then settle."""
    if job.terminal:
        return Step("done")
    if job.assets:
        return Step("settle")
    try:
        found = _found(job)
    except Over as over:
        return over.step
    except NotFound:
        return fail("failed", "project_gone", "The project is not there any more.")
    except (NoSource, NothingToHear, Unknown) as error:
        return fail("failed", "clip_gone", f"The clip cannot be listened to any more: {error}.")
    except NotMedia as error:
        return fail("failed", "invalid_input", f"The clip cannot be listened to: {error}.")
    except (operations.Refused, Invalid, PayloadTooLarge) as error:
        return fail("failed", "invalid_input", f"The cuts cannot be taken out of the project: {error}")
    except Refused:
        logger.info("the job has ended meanwhile")
        return Step("done")
    return _done(job, found)


def _check(job: Job) -> None:
    """Raises Over for a job whose end was asked for, or whose time is up."""
    step = decide.of_our_own(job, current_time())
    if step is not None:
        raise Over(step)


def _found(job: Job) -> Found:
    """What there is to cut, and the version without it. Once that is saved it is too late to call the job off.

    Raises Over, Refused, NotFound, NoSource, NothingToHear, Unknown, NotMedia, Invalid, PayloadTooLarge and
    operations.Refused.
    """
    request, project_id = _request(job), str(job.request["project"])
    applied = _applied(request)
    if applied is not None:
        before = _before(job, applied)
        return Found(before.version, _cuts(job, _document(before), _quiet(job, before)), applied)
    _check(job)
    jobs.work(job.id, current_time())
    before = table.find(job.account, project_id)
    # Whoever calls a long recording off need not wait for its end.
    quiet = _quiet(job, before, meanwhile=lambda: _check(find.any_account(job.id)))
    _check(find.any_account(job.id))
    if job.request["apply"]:
        with suppress(NothingToCut):
            edit.change(project_id, lambda current: _without(job, _document(current), quiet), request)
        applied = _applied(request)
        before = before if applied is None else _before(job, applied)
    return Found(before.version, _cuts(job, _document(before), quiet), applied)


def _request(job: Job) -> Request:
    """What makes the change of a repeated step the same change. The project's history shows the job as who saved it."""
    return Request(job.account, job.id, job.kind, job.id, job.request_hash, current_time())


def _applied(request: Request) -> int | None:
    """The version that this job has saved."""
    try:
        table.check_once(request)
    except Repeated as repeated:
        return repeated.version
    return None


def _before(job: Job, applied: int) -> Project:
    """The version that the job has changed. Raises NotFound."""
    return table.version_of(job.account, job.request["project"], applied - 1)


def _quiet(job: Job, project: Project, *, meanwhile: Callable[[], None] | None = None) -> Quiet:
    """Where the clip is quiet, in seconds of its source. `meanwhile` is called now and then, and may raise."""
    document = _document(project)
    clip, mode = job.request["clip"], job.request["mode"]
    heard = accept.source(job.account, document, clip).asset
    with ranged.opened(heard.key, before=meanwhile) as file:
        return silence.listened(
            document.timeline,
            clip,
            file,
            heard.content_type,
            settings=_settings(job),
            mode=mode,
            numbers=templates.numbers(document.variables),
        )


def _document(project: Project) -> Document:
    return Document.model_validate(project.document)


def _settings(job: Job) -> Silence:
    return Silence(**{name: float(job.request[name]) for name in Silence.model_fields})


def _cuts(job: Job, document: Document, quiet: Quiet) -> list[Cut]:
    numbers = templates.numbers(document.variables)
    return silence.cuts(document.timeline, job.request["clip"], quiet, _settings(job), numbers)


def _without(job: Job, document: Document, quiet: Quiet) -> Document:
    """The document without what is quiet. Raises NothingToCut where nothing is."""
    cuts = _cuts(job, document, quiet)
    if not cuts:
        raise NothingToCut
    line = silence.applied(document.timeline, cuts, templates.numbers(document.variables))
    return document.model_copy(update={"timeline": line})


def _done(job: Job, found: Found) -> Step:
    text = json.dumps(_told(job, found), ensure_ascii=False)
    origin = store.origin(job, "cuts")
    asset = assets.store_text(text, "application/json", store.asset_id(job, 0), origin, now=current_time())
    result = Prediction(id="none", status="succeeded", units=job.units)
    try:
        jobs.generated(job, result, [view.summary(asset)], current_time())
    except Refused:
        logger.info("the job has ended meanwhile")
        return Step("done")
    logger.info("listened", cuts=len(found.cuts), applied=found.applied)
    return Step("settle")


def _told(job: Job, found: Found) -> dict[str, Any]:
    """The result: `cuts` are in seconds of the version `etag`, `applied` is the version without them."""
    asked = {name: job.request[name] for name in ("project", "clip", "mode", *Silence.model_fields)}
    return {
        **asked,
        "etag": f'"{found.version}"',
        "cuts": [{"start": cut.start, "end": cut.end} for cut in found.cuts],
        "removed_s": round(sum(cut.end - cut.start for cut in found.cuts), 9),
        "applied": None if found.applied is None else {"etag": f'"{found.applied}"'},
    }
