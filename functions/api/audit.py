"""GET /v1/audit: who changed what, when and from where; the caller's own account, or with the scope `admin` all."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from shared.core import auth, web
from shared.core.clock import now
from shared.core.dynamo import Item
from shared.core.errors import Forbidden, Invalid
from shared.core.web import Cursor, Limit
from shared.delivery import audit_table
from shared.delivery.audit import KEEP_S, Action
from shared.delivery.audit_table import Search

app = web.Api()

RESOURCE = r"^[a-z_]{1,20}/[A-Za-z0-9._@|+#-]{1,160}$"
LONGEST_S = 31 * 86400
HIDDEN = "(internal)"
# Of these items the account sees the values that its own API tells; of everything else all that the audit has kept.
TOLD = {
    "job": frozenset(
        (
            *("id", "account", "kind", "model", "status", "request", "hold", "charged", "units", "error", "assets"),
            *("metadata", "batch", "progress", "callback_url", "cancel_requested_at", "created_at", "updated_at"),
            *("deadline_at", "request_id"),
        )
    ),
    "batch": frozenset(("id", "account", "hold", "is_split", "created_at", "request_id")),
    "asset": frozenset(
        (
            *("id", "account", "job_id", "kind", "role", "content_type", "bytes", "sha256"),
            *("width", "height", "duration_s", "created_at"),
            *("source", "name", "prompt", "attribution", "tags", "probe", "deleted_at"),
        )
    ),
    "upload": frozenset(
        ("id", "account", "content_type", "bytes", "name", "state", "asset_id", "code", "detail", "created_at")
    ),
}


def spelled_out(text: Any) -> Any:
    """The text of a time. Refuse a number, which pydantic would take for seconds since 1970, and a time told twice."""
    if not isinstance(text, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
        raise ValueError("must be a date and time as RFC 3339 spells it")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(spelled_out)]


class AuditChange(BaseModel):
    """A field's value before and after; null where it had none. Secrets are masked, long values cut."""

    before: Any = None
    after: Any = None


class AuditEntry(BaseModel):
    """One change of one item. `resource` is what the item belongs to: a hold belongs to its job."""

    id: str
    at: str
    account: str
    resource: str
    item: str
    action: Action
    actor: Annotated[str, Field(description="An account, `webhook:…`, or a part of ours: `system:…`.")]
    address: Annotated[str | None, Field(description="The IP address of the request; told of one's own only.")]
    request_id: Annotated[str | None, Field(description="The `x-request-id` of the request that made the change.")]
    changes: dict[str, AuditChange]

    @classmethod
    def of(cls, row: Item, *, everything: bool) -> "AuditEntry":
        own = everything or row["actor"].partition("/")[0] == row["account"]
        told = None if everything else TOLD.get(row["item"])
        return cls.model_validate(
            {
                **row,
                "at": row["at"].partition("#")[0],
                "address": row.get("address") if own else None,
                "request_id": row.get("request_id") or row.get("job_request_id"),
                "changes": {
                    name: change if told is None or name in told else dict.fromkeys(change, HIDDEN)
                    for name, change in row["changes"].items()
                },
            }
        )


class AuditPage(BaseModel):
    items: list[AuditEntry]
    next_cursor: str | None


@app.get("/v1/audit")
def list_audit(  # noqa: PLR0917 Each is a parameter of the query.
    resource: Annotated[str | None, Query(pattern=RESOURCE, description="Such as `job/job_…` or `asset/as_…`.")] = None,
    since: Annotated[Moment | None, Query(description="The earliest time, RFC 3339 with its offset.")] = None,
    until: Annotated[Moment | None, Query(description="The time before which, RFC 3339 with its offset.")] = None,
    account: Annotated[str | None, Query(max_length=128, description="Another account's; scope `admin`.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> AuditPage:
    everything = "admin" in web.caller().scopes
    if account is not None and account != web.account() and not everything:
        raise Forbidden("Another account's audit needs the scope 'admin'.")
    if account is not None and not auth.ACCOUNT.fullmatch(account):
        raise _invalid("account", "is no account id")
    search = _search(since, until, account=account if everything else web.account(), resource=resource)
    rows, following = audit_table.page(search, limit=limit, cursor=cursor)
    return AuditPage(items=[AuditEntry.of(row, everything=everything) for row in rows], next_cursor=following)


def _search(since: datetime | None, until: datetime | None, *, account: str | None, resource: str | None) -> Search:
    latest = now() + 60
    end = min(_seconds("until", until), latest) if until else latest
    of_all = account is None and resource is None
    begin = _seconds("since", since) if since else end - (LONGEST_S if of_all else KEEP_S)
    if of_all and end - begin > LONGEST_S:
        raise _invalid("since", "all accounts are told of 31 days at once")
    return Search(begin, end, account, resource)


def _seconds(name: str, time: datetime) -> float:
    try:
        return max(0.0, time.astimezone(UTC).timestamp())
    except OverflowError:
        raise _invalid(name, "is no time of ours") from None


def _invalid(name: str, detail: str) -> Invalid:
    return Invalid("The request is not valid.", errors=[{"pointer": f"?{name}", "detail": detail}])


handler = web.handler(app)
