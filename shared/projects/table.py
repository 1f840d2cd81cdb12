"""Projects as they are kept: what is known of one in one item, and each of its last 50 versions in another.

A version's item is `pr_…#<version modulo 50>`, so that version 51 takes the place of version 1 and nothing has to be
cleaned up. A save writes the version and moves the project on in one transaction, on the condition that the project is
still what it was: of two that save at once one is told that it was late. Documents that an item cannot carry are in the
bucket, under a name that no other version has (`leftovers` sees to it that none stays there without its version).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from shared.core import aws, dynamo, ids, web
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.errors import BadRequest, NotFound, PayloadTooLarge, PreconditionFailed
from shared.core.settings import settings
from shared.projects import leftovers, usage

PREFIX = "pr"
KEPT = 50
LARGEST_ITEM = 300_000
LARGEST_DOCUMENT = 2 * 1024 * 1024
"""Bytes of JSON, of a document as of a request that has it. Lambda can answer with three times as much, and a document
within its answer, which is JSON as well, may grow to twice its size."""
ONCE_S = 24 * 3600
DELETED_S = 7 * 24 * 3600
READS = 5

# Nobody has saved or deleted it since it was read.
STILL_THAT = "account = :account AND version = :version AND attribute_exists(created)"


@dataclass(frozen=True)
class Summary:
    """What a list tells of a project. `assets` are those that its document names; `duration_s` is None while a variable
    without a default keeps it open."""

    id: str
    account: str
    version: int
    title: str
    clips: int
    duration_s: float | None
    assets: tuple[str, ...]
    created_at: str
    updated_at: str

    @staticmethod
    def of(item: Item) -> "Summary":
        fields = {name: item.get(name) for name in Summary.__dataclass_fields__}
        return Summary(**{**fields, "assets": tuple(item.get("assets", ()))})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Project:
    """A version of a project: what is known of it, and its document (title, timeline, variables, output)."""

    summary: Summary
    document: dict[str, Any]

    @property
    def id(self) -> str:
        return self.summary.id

    @property
    def version(self) -> int:
        return self.summary.version


@dataclass(frozen=True)
class Draft:
    """A document that is in order, and what a list tells of it."""

    document: dict[str, Any]
    clips: int
    duration_s: float | None
    assets: tuple[str, ...]

    @property
    def title(self) -> str:
        return str(self.document["title"])

    def fields(self) -> Item:
        """What of it stands on the project's item."""
        told = {"title": self.title, "clips": self.clips, "duration_s": self.duration_s, "assets": list(self.assets)}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class Version:
    """What the history tells of a version; `restored` is the one that it repeats."""

    version: int
    title: str
    bytes: int
    saved_at: str
    saved_by: str
    restored: int | None = None


@dataclass(frozen=True)
class Request:
    """Who asks for a change, and what makes the repeat of a request the same request."""

    account: str
    actor: str
    operation: str
    idempotency_key: str | None
    body: Any
    now: float

    def fingerprint(self) -> str:
        told = json.dumps([self.operation, self.body], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()


class Repeated(Exception):
    """The request was done before; the project it has led to, and in which version."""

    def __init__(self, project_id: str, version: int) -> None:
        super().__init__(project_id)
        self.project_id = project_id
        self.version = version


def create(draft: Draft, request: Request) -> Project:
    """A new project, in its first version. Raises Repeated, Invalid for a key that was used for something else."""
    time = iso(request.now)
    project_id = ids.new(PREFIX)
    item = {
        "id": project_id,
        "account": request.account,
        "version": 1,
        "created": f"{time}#{project_id}",
        "created_at": time,
        "updated_at": time,
        **draft.fields(),
    }
    usage.hint(project_id, draft.assets, request.now)
    _commit(draft, [dynamo.put(settings().projects_table, item)], request, project_id=project_id, version=1)
    return Project(Summary.of(item), draft.document)


def find(account: str, project_id: str) -> Project:
    """The project as it is now. Raises NotFound."""
    for attempt in range(READS):
        summary = known(account, project_id)
        version = _read(summary.id, summary.version)
        # It may be deleted between the reads, and fifty saves would put another version in its place: look again.
        if version is not None:
            try:
                return Project(summary, _document(version))
            except ClientError:
                if attempt == READS - 1:
                    raise
    raise NotFound("There is no such project.")


def known(account: str, project_id: str) -> Summary:
    """What is known of a project. Raises NotFound."""
    item = dynamo.get(settings().projects_table, {"id": project_id}) if is_id(project_id) else None
    if item is None or item["account"] != account or "created" not in item:
        raise NotFound("There is no such project.")
    return Summary.of(item)


def save(before: Summary, draft: Draft, request: Request, *, restored: int | None = None) -> Project:
    """The next version of a project. Raises PreconditionFailed when somebody was faster, Repeated, NotFound."""
    version = before.version + 1
    time = iso(request.now)
    sets = {**draft.fields(), "version": version, "updated_at": time}
    removed = "" if draft.duration_s is not None else " REMOVE duration_s"
    # `version` stands in the condition, too: there it is the one that was read.
    values = {f"new_{name}": value for name, value in sets.items()}
    write = dynamo.change(
        settings().projects_table,
        {"id": before.id},
        "SET " + ", ".join(f"#{name} = :new_{name}" for name in sets) + removed,
        when=STILL_THAT,
        names={f"#{name}": name for name in sets},
        values={**values, "account": before.account, "version": before.version},
    )
    old = _read(before.id, version - KEPT) if version > KEPT else None
    usage.hint(before.id, set(draft.assets) - set(before.assets), request.now)
    _commit(draft, [write], request, project_id=before.id, version=version, restored=restored, replaced=old)
    summary = replace(
        before,
        version=version,
        title=draft.title,
        clips=draft.clips,
        duration_s=draft.duration_s,
        assets=draft.assets,
        updated_at=time,
    )
    return Project(summary, draft.document)


def delete(account: str, project_id: str, version: int, now: float) -> None:
    """Take the project away, with its history. What is left tells for a week that it was deleted. Raises NotFound and
    PreconditionFailed."""
    summary = known(account, project_id)
    gone = dynamo.change(
        settings().projects_table,
        {"id": project_id},
        "SET deleted_at = :at, expires_at = :ends REMOVE created, assets",
        when=STILL_THAT,
        values={"account": account, "version": version, "at": iso(now), "ends": int(now) + DELETED_S},
    )
    history = leftovers.row(project_id, now)
    try:
        dynamo.transact([gone, leftovers.added(history)])
    except Refused as refused:
        raise _stale(refused.found[0]) from refused
    clear_history(project_id, now)
    usage.forget(project_id, summary.assets)
    leftovers.done(history)


def clear_history(project_id: str, now: float) -> None:
    """Take the documents of a deleted project away, and let its versions expire."""
    slots = [_slot(project_id, number) for number in range(KEPT)]
    kept = dynamo.get_all(settings().projects_table, slots, attributes_of=("id", "document_key", "expires_at"))
    for item in kept.values():
        if "expires_at" in item:
            continue
        if "document_key" in item:
            aws.s3().delete_object(Bucket=settings().media_bucket, Key=item["document_key"])
        dynamo.update(
            dynamo.change(
                settings().projects_table,
                {"id": item["id"]},
                "SET expires_at = :ends REMOVE document, document_key",
                when="attribute_exists(id)",
                values={"ends": int(now) + DELETED_S},
            )
        )


def page(account: str, *, limit: int, cursor: str | None) -> tuple[list[Summary], str | None]:
    """The account's projects, newest first, and the cursor of the next page."""
    items, following = dynamo.page(
        settings().projects_table,
        partition=("account", account),
        sort=("created", ""),
        index="by_account",
        limit=limit,
        cursor=cursor,
        also_key="id",
    )
    return [Summary.of(item) for item in items], following


def versions(account: str, project_id: str, *, limit: int, cursor: str | None) -> tuple[list[Version], str | None]:
    """The last 50 versions of a project, newest first, and the cursor of the next page."""
    current = known(account, project_id).version
    numbers = list(_numbers(current))
    after = dynamo.read_cursor(cursor, "")
    if after is not None:
        if not after.isdigit():
            raise BadRequest("This cursor is not one of ours.", code="bad_cursor")
        numbers = [number for number in numbers if number < int(after)]
    wanted = numbers[:limit]
    found = dynamo.get_all(
        settings().projects_table,
        [_slot(project_id, number) for number in wanted],
        attributes_of=("id", "version", "title", "bytes", "saved_at", "saved_by", "restored"),
    )
    told = [
        Version(**{name: item[name] for name in Version.__dataclass_fields__ if name in item})
        for item in found.values()
    ]
    told.sort(key=lambda version: version.version, reverse=True)
    more = len(numbers) > limit
    # A version that was saved meanwhile has taken the place of the oldest: it is not of this page.
    told = [version for version in told if version.version in wanted]
    return told, dynamo.write_cursor(str(wanted[-1])) if more else None


def version_of(account: str, project_id: str, version: int) -> Project:
    """A project as it was in one of its last 50 versions. Raises NotFound."""
    summary = known(account, project_id)
    item = _read(project_id, version) if version in _numbers(summary.version) else None
    if item is None:
        raise NotFound("There is no such version of this project.")
    fields = {name: item[name] for name in ("title", "version", "clips") if name in item}
    told = replace(
        summary, **fields, duration_s=item.get("duration_s"), assets=tuple(item["assets"]), updated_at=item["saved_at"]
    )
    return Project(told, _document(item))


def is_id(project_id: str) -> bool:
    """Whether a project can have this id."""
    prefix, _, rest = project_id.partition("_")
    return prefix == PREFIX and rest.isalnum() and rest.isascii()


def _numbers(current: int) -> range:
    """The versions that are kept, newest first."""
    return range(current, max(0, current - KEPT), -1)


def _slot(project_id: str, version: int) -> str:
    return f"{project_id}#{version % KEPT:02d}"


def _read(project_id: str, version: int) -> Item | None:
    """The item of a version, if it is still there."""
    item = dynamo.get(settings().projects_table, {"id": _slot(project_id, version)})
    return item if item and item["version"] == version and ("document" in item or "document_key" in item) else None


def _document(item: Item) -> dict[str, Any]:
    text = item.get("document")
    if text is None:
        answer = aws.s3().get_object(Bucket=settings().media_bucket, Key=item["document_key"])
        text = answer["Body"].read()
    document: dict[str, Any] = json.loads(text)
    return document


def _commit(
    draft: Draft,
    writes: Sequence[Write],
    request: Request,
    *,
    project_id: str,
    version: int,
    restored: int | None = None,
    replaced: Item | None = None,
) -> None:
    """Write a version, in the place of the one that it replaces, together with what moves its project on: all or
    nothing."""
    text = json.dumps(draft.document, separators=(",", ":"), ensure_ascii=False)
    size = len(text.encode())
    if size > LARGEST_DOCUMENT:
        raise PayloadTooLarge(f"A project may have {LARGEST_DOCUMENT} bytes.")
    item: Item = {
        "id": _slot(project_id, version),
        "account": request.account,
        "version": version,
        "saved_at": iso(request.now),
        "saved_by": request.actor,
        "bytes": size,
        **draft.fields(),
        **({"restored": restored} if restored is not None else {}),
    }
    fresh = old = None
    if size > LARGEST_ITEM:
        item["document_key"] = f"projects/{project_id}/{ids.new('v')}.json"
        fresh = leftovers.row(item["document_key"], request.now)
        leftovers.announce(fresh)
        aws.s3().put_object(
            Bucket=settings().media_bucket,
            Key=item["document_key"],
            Body=text.encode(),
            ContentType="application/json",
        )
    else:
        item["document"] = text
    writes = [*writes, {"Put": {"TableName": settings().projects_table, "Item": dynamo.attributes(item)}}]
    if fresh:
        writes.append(leftovers.settled(fresh))
    if replaced and "document_key" in replaced:
        old = leftovers.row(replaced["document_key"], request.now)
        writes.append(leftovers.added(old))
    try:
        dynamo.transact([*writes, *_once(project_id, version, request)])
    except Refused as refused:
        if fresh:
            leftovers.try_to_clear(fresh)
        if request.idempotency_key is not None and refused.refusals[-1]:
            raise _repeated(refused.found[-1], request) from refused
        raise _stale(refused.found[0]) from refused
    if old:
        leftovers.try_to_clear(old)


def _once(project_id: str, version: int, request: Request) -> list[Write]:
    if request.idempotency_key is None:
        return []
    item = {
        "id": f"once#{ids.derived('once', request.account, request.operation, request.idempotency_key)}",
        "request_hash": request.fingerprint(),
        "project": project_id,
        "version": version,
        "expires_at": int(request.now) + ONCE_S,
    }
    return [dynamo.put(settings().projects_table, item)]


def check_once(request: Request) -> None:
    """Raises Repeated if this request was done before, Invalid if its key was used for another."""
    if request.idempotency_key is not None:
        name = ids.derived("once", request.account, request.operation, request.idempotency_key)
        met = dynamo.get(settings().projects_table, {"id": f"once#{name}"})
        if met is not None:
            raise _repeated(met, request)


def _repeated(met: Item | None, request: Request) -> Exception:
    if met is None or met["request_hash"] != request.fingerprint():
        return web.key_reused()
    return Repeated(met["project"], met["version"])


def _stale(met: Item | None) -> Exception:
    if met is None or "created" not in met:
        return NotFound("There is no such project.")
    return PreconditionFailed(version=met["version"])
