"""What is done to projects: a document is checked against its assets and saved, operations are applied to whatever is
current then."""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.core import dynamo
from shared.core.errors import Invalid, PreconditionFailed, Unavailable
from shared.core.settings import settings
from shared.editor import check, operations, templates, timeline
from shared.editor.check import Facts, Family, Flawed
from shared.editor.operations import Operation, Refused
from shared.editor.timeline import Document
from shared.media import library
from shared.projects import table
from shared.projects.table import Draft, Project, Repeated, Request

ATTEMPTS = 30
LONGEST_PAUSE_S = 0.3
AT_ONCE = 100
FAMILIES: Mapping[str, Family] = {"image": "image", "video": "video", "audio": "audio"}
CAPTIONS = {"application/x-subrip", "text/vtt", "text/x-ssa"}


def create(document: Document, request: Request) -> tuple[Project, bool]:
    """A new project; whether it was made by the same request before. Raises Invalid."""
    try:
        table.check_once(request)
        return table.create(_draft(document, request.account), request), False
    except Repeated as repeated:
        return _again(repeated, request), True


def put(project_id: str, document: Document, request: Request, *, versions: Collection[int] | None) -> Project:
    """Save a document as the next version. Raises PreconditionFailed unless the current one is among `versions` (None
    is any), Invalid, NotFound."""
    before = table.known(request.account, project_id)
    _expect(before.version, versions)
    return table.save(before, _draft(document, request.account, gone=before.assets), request)


def operate(
    project_id: str, told: Sequence[Operation], request: Request, *, versions: Collection[int] | None
) -> tuple[Project, bool]:
    """Apply operations, all or none, to the current version, whichever that is when they are saved: of two who edit at
    once none loses what it did. Whether it was done before. Raises Invalid, NotFound, PreconditionFailed where
    `versions` says which version is meant, Unavailable when others are faster too often."""
    return change(project_id, lambda before: _operated(before.document, told), request, versions=versions)


def change(
    project_id: str,
    changed: Callable[[Project], Document],
    request: Request,
    *,
    versions: Collection[int] | None = None,
) -> tuple[Project, bool]:
    """Save what `changed` makes of the current version; once more if another version is current by then. Whether it was
    done before. Raises what `operate` raises, and what `changed` does."""
    try:
        table.check_once(request)
        for attempt in range(ATTEMPTS):
            before = table.find(request.account, project_id)
            _expect(before.version, versions)
            draft = _draft(changed(before), request.account, gone=before.summary.assets)
            try:
                return table.save(before.summary, draft, request), False
            except PreconditionFailed:
                if versions is not None:
                    raise
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, LONGEST_PAUSE_S)))
    except Repeated as repeated:
        return _again(repeated, request), True
    raise Unavailable("Too many change this project at once; try again.", code="busy", retry_after=1)


def restore(
    project_id: str, version: int, request: Request, *, versions: Collection[int] | None
) -> tuple[Project, bool]:
    """Make an earlier version the next one; assets that are gone meanwhile show as missing."""
    try:
        table.check_once(request)
        before = table.known(request.account, project_id)
        _expect(before.version, versions)
        old = table.version_of(request.account, project_id, version)
        return table.save(before, _same(old), request, restored=version), False
    except Repeated as repeated:
        return _again(repeated, request), True


def duplicate(project_id: str, title: str | None, request: Request) -> tuple[Project, bool]:
    """A new project with the current document of another."""
    try:
        table.check_once(request)
        old = table.find(request.account, project_id)
        draft = _same(old)
        named = {**draft.document, "title": title or f"{old.summary.title} (copy)"[:200]}
        return table.create(replace(draft, document=named), request), False
    except Repeated as repeated:
        return _again(repeated, request), True


def missing(project: Project) -> list[str]:
    """The assets that a project names and that are there no more."""
    there = facts(project.summary.assets, project.summary.account)
    return [asset for asset in project.summary.assets if asset not in there]


def resolved(document: Document, variables: Mapping[str, Any], account: str) -> Document:
    """What an export or a preview renders: the document with values in the place of its variables, checked with them.
    Raises Invalid, which names what is unknown, missing or does not fit."""
    try:
        done = templates.rendered(document, variables)
        values = templates.values(document, variables)
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        found = list(check.flaws(document, numbers))
        known = facts(check.assets(done), account)
        done = check.filled(done, known)
        found += check.asset_flaws(done, known)
    except templates.Unfit as unfit:
        raise _invalid([check.Flaw(*flaw) for flaw in unfit.flaws], "The variables do not fit.") from unfit
    if found:
        raise _invalid(found, "The project is not in order.")
    return done


def facts(assets: Collection[str], account: str) -> dict[str, Facts]:
    """What is known of the account's assets; those that are deleted, or not its own, are not there."""
    wanted = sorted(assets)
    found: dict[str, Facts] = {}
    for start in range(0, len(wanted), AT_ONCE):
        items = dynamo.get_all(settings().assets_table, wanted[start : start + AT_ONCE])
        for asset_id, item in items.items():
            if item.get("account") == account and "key" in item and "deleted_at" not in item:
                found[asset_id] = _facts(item)
    return found


def _facts(item: dynamo.Item) -> Facts:
    media_type = str(item["content_type"]).partition(";")[0]
    family = "captions" if media_type in CAPTIONS else FAMILIES.get(media_type.partition("/")[0], "other")
    lasts = item.get("duration_s") if family in ("video", "audio") else None
    return Facts(family, lasts, has_sound=library.may_sound(item.get("probe")))


def _operated(document: dict[str, Any], told: Sequence[Operation]) -> Document:
    current = Document.model_validate(document)
    numbers = templates.numbers(current.variables)
    line = current.timeline
    for number, operation in enumerate(told):
        try:
            line = operations.applied(line, operation, numbers)
        except Refused as refused:
            flaw = check.Flaw(f"/operations/{number}{refused.pointer}", refused.detail)
            raise _invalid([flaw], "An operation cannot be done.") from refused
    return current.model_copy(update={"timeline": line})


def _draft(document: Document, account: str, *, gone: Collection[str] = ()) -> Draft:
    """The document as it is saved. Raises Invalid with what is wrong where."""
    document = document.model_copy(update={"timeline": timeline.with_ids(document.timeline)})
    known = facts(check.assets(document), account)
    try:
        document = check.checked(document, known, gone=gone)
    except Flawed as flawed:
        raise _invalid(flawed.flaws, "The project is not in order.") from flawed
    try:
        lasts = float(timeline.duration(document.timeline, templates.numbers(document.variables)))
    except timeline.Unknown:
        lasts = None
    return Draft(
        document=timeline.written(document),
        clips=sum(len(track.clips) for track in document.timeline.tracks),
        duration_s=None if lasts is None else round(lasts, 3),
        assets=tuple(sorted(check.assets(document))),
    )


def _same(project: Project) -> Draft:
    summary = project.summary
    return Draft(project.document, summary.clips, summary.duration_s, summary.assets)


def _expect(version: int, versions: Collection[int] | None) -> None:
    if versions is not None and version not in versions:
        raise PreconditionFailed(version=version)


def _again(repeated: Repeated, request: Request) -> Project:
    """What a repeated request has led to, as it was then while that is still known."""
    current = table.find(request.account, repeated.project_id)
    if repeated.version in range(current.version - table.KEPT + 1, current.version):
        return table.version_of(request.account, repeated.project_id, repeated.version)
    return current


def _invalid(flaws: Sequence[check.Flaw], detail: str) -> Invalid:
    return Invalid(detail, errors=[flaw.told() for flaw in flaws])
