"""What a callback says: the job as it has ended, in less than 20 kB.

Files are named by id, hash and API path; presigned addresses would have expired by the time of a later attempt.
"""

import json
from typing import Any

from shared.jobs.table import Job

LARGEST_BODY = 20_000
LONGEST_DETAIL = 1000
TOLD_OF_ASSETS = ("id", "role", "content_type", "bytes", "sha256", "width", "height", "duration_s")


def event_type(job: Job) -> str:
    """`job.succeeded`, `job.failed`, `job.canceled` or `job.timed_out`."""
    return f"job.{job.status}"


def body(job: Job) -> str:
    """The body of the callback. The caller's own metadata is left out (null) where it would not fit."""
    data = _data(job)
    text = _text(job, data)
    if len(text.encode()) < LARGEST_BODY:
        return text
    return _text(job, {**data, "metadata": None})


def _text(job: Job, data: dict[str, Any]) -> str:
    event = {"type": event_type(job), "timestamp": job.updated_at, "data": data}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def _data(job: Job) -> dict[str, Any]:
    error = {"code": job.error.code, "detail": job.error.detail[:LONGEST_DETAIL]} if job.error else None
    return {
        "id": job.id,
        "kind": job.kind,
        "model": job.model,
        "status": job.status,
        "batch": job.batch,
        "credits": {"held": job.hold, "charged": job.charged},
        "assets": [
            {name: asset[name] for name in TOLD_OF_ASSETS if asset.get(name) is not None}
            | {"path": f"/v1/assets/{asset['id']}"}
            for asset in job.assets
        ],
        "error": error,
        "metadata": job.metadata,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }
