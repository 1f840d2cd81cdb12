"""What a record of a table's stream tells the audit: who changed what, from what to what, when and from where.

Whatever is written to the tables of jobs, the ledger, assets, access and publications comes by here, also what goes
around our code; only the hold on a job that the sweeper keeps (`sweep_at`), counters of what providers cost and
remembered answers of analyses are no change of anything. Secrets are masked and large values cut before they are kept.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.core import dynamo, ids
from shared.core.acting import UNKNOWN
from shared.core.clock import iso
from shared.core.dynamo import CHANGED_BY, REMOVING, Item
from shared.core.log import MASK, masked
from shared.core.settings import settings

Action = Literal["created", "changed", "deleted", "expired"]
Record = Mapping[str, Any]

KEEP_S = 400 * 86400
SHARDS = 4
"""A day's entries are spread over so many partitions of the index that administrators read."""
LONGEST_TEXT = 300
LONGEST_VALUE = 1500

EXPIRY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
"""The userIdentity of what the table's TTL has deleted."""

# Who looks when at what, and who has written: of the writing, not of what is written.
BOOKKEEPING = {
    CHANGED_BY,
    REMOVING,
    *(
        "sweep_at",
        "swept_at",
        "open_shard",
        "reconcile_at",
        "reconcile_shard",
        "pending_shard",
        "due_shard",
        "open_for",
        "seq",
    ),
}
SECRET = re.compile(
    r"(^|_)(token|secret|hash|password|signature|salt|pepper|authorization|credential)s?$", re.IGNORECASE
)
URL = re.compile(r"\b(https?://)(?:[^/?#\s\"'<>]*@)?([^?#\s\"'<>]*)(?:[?#][^\s\"'<>]*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Subject:
    """Whose an item is, which resource it belongs to (`job/job_…`), and what of that resource it is."""

    account: str
    resource: str
    item: str


def row(record: Record) -> Item | None:
    """The audit's item for a stream record; the same record always gives the same. None where nothing is to be told."""
    change = record["dynamodb"]
    old, new = (dynamo.plain(change.get(image, {})) for image in ("OldImage", "NewImage"))
    subject = subject_of(_table(record), new or old)
    changes = _changes(old, new)
    if subject is None or not changes.keys() - {"updated_at"}:
        return None
    action = _action(record)
    actor = _actor(action, old, new)
    time = iso(float(change["ApproximateCreationDateTime"]))
    event = str(record["eventID"])
    told = {
        "account": subject.account,
        "at": f"{time}#{change['SequenceNumber']:0>40}#{_digest(event)[:8]}",
        "id": ids.derived("audit", str(record["eventSourceARN"]), event),
        "day": day(time, int(_digest(event), 16) % SHARDS),
        "resource": subject.resource,
        "item": subject.item,
        "action": action,
        "actor": actor.get("actor"),
        "address": actor.get("address"),
        "request_id": actor.get("request_id"),
        "job_request_id": (new or old).get("request_id"),
        "changes": changes,
        "expires_at": int(float(change["ApproximateCreationDateTime"])) + KEEP_S,
    }
    return {name: value for name, value in told.items() if value is not None}


def day(time: str, shard: int) -> str:
    """The partition of the index by day that an entry of this time (RFC 3339) is in."""
    return f"{time[:10]}#{shard}"


def subject_of(table: str, item: Item) -> Subject | None:
    """What an item is about; None for what is no resource of anybody's."""
    if table == settings().jobs_table:
        kind = "batch" if str(item["id"]).startswith("batch_") else "job"
        return Subject(item["account"], f"{kind}/{item['id']}", kind)
    if table == settings().ledger_table:
        return _of_ledger(item)
    if table == settings().assets_table:
        kind = "upload" if str(item["id"]).startswith("up_") else "asset"
        return Subject(item["account"], f"{kind}/{item['id']}", kind) if "account" in item else None
    if table == settings().projects_table:
        name, _, of = str(item["id"]).partition("#")
        known = name.startswith("pr_")
        return Subject(item["account"], f"project/{name}", "version" if of else "project") if known else None
    if table == settings().publications_table:
        # Which publication a post belongs to is on the publication, too.
        known = "account" in item
        return Subject(item["account"], f"publication/{item['id']}", "publication") if known else None
    kind, _, name = str(item["id"]).partition("#")
    if kind == "key":
        return Subject(item["account"], f"api_key/key_{name}", "api_key")
    account = name.partition("#")[0]
    what = {"jti": "revoked_token", "account": "access"}.get(kind, kind)
    return Subject(str(item.get("account", account)), f"access/{account}", what)


def _of_ledger(item: Item) -> Subject | None:
    account, (kind, _, name) = item["account"], str(item["sort"]).partition("#")
    if account.startswith("spend#"):
        return None
    job = name if kind == "hold" else item.get("job_id")
    if job:
        return Subject(account, f"{'batch' if job.startswith('batch_') else 'job'}/{job}", kind)
    return Subject(account, f"credits/{account}", {"account": "balance", "once": "grant"}.get(kind, kind))


def _table(record: Record) -> str:
    return str(record["eventSourceARN"]).partition(":table/")[2].partition("/")[0]


def _action(record: Record) -> Action:
    if record["eventName"] == "INSERT":
        return "created"
    if record["eventName"] == "MODIFY":
        return "changed"
    identity = record.get("userIdentity") or {}
    # The two spellings are those of the stream's own API and of what Lambda is given.
    told = {name[0].lower() + name[1:]: value for name, value in identity.items()}
    return "expired" if told == EXPIRY else "deleted"


def _actor(action: Action, old: Item, new: Item) -> dict[str, str]:
    """Who has signed this very change; nobody has, where the signature is still that of the change before."""
    if action == "expired":
        return {"actor": "system:expiry"}
    if action == "deleted":
        found = old.get(CHANGED_BY) if old.get(REMOVING) else None
    else:
        found = new.get(CHANGED_BY) if new.get(CHANGED_BY) != old.get(CHANGED_BY) else None
    return found or {"actor": UNKNOWN.name}


def _changes(old: Item, new: Item) -> dict[str, dict[str, Any]]:
    """Every field that is another now, before and after, as it may be kept."""
    names = sorted((old.keys() | new.keys()) - BOOKKEEPING)
    return {
        name: {when: shown(name, item[name]) for when, item in (("before", old), ("after", new)) if name in item}
        for name in names
        if old.get(name) != new.get(name)
    }


def shown(name: str, value: Any) -> Any:
    """A field's value without secrets, and no longer than an audit needs."""
    clean = _clean(name, value)
    text = clean if isinstance(clean, str) else json.dumps(clean, ensure_ascii=False, default=str)
    return clean if len(text) <= LONGEST_VALUE else _cut(text, LONGEST_VALUE)


def _clean(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if SECRET.search(name):
        return MASK
    if name == "jobs":
        # What a batch was accepted as; each of its jobs is told by itself.
        return f"({len(value)} characters)"
    if isinstance(value, Mapping):
        return {inner: _clean(inner, what) for inner, what in value.items()}
    if isinstance(value, list):
        return [_clean(name, what) for what in value]
    if isinstance(value, str):
        return _cut(_text(name, value), LONGEST_TEXT)
    return value


def _text(name: str, text: str) -> str:
    if name == "callback_url":
        # Its path may be all that keeps strangers out.
        return URL.sub(lambda found: f"{found[1]}{found[2].partition('/')[0]}/{MASK}", text)
    return masked(URL.sub(lambda found: found[1] + found[2] + ("?" + MASK if "?" in found[0] else ""), text))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
