"""What a caller sees of a job and its assets."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.core.clock import iso
from shared.core.clock import now as current_time
from shared.core.settings import settings
from shared.jobs import catalog
from shared.jobs.catalog import Kind
from shared.jobs.status import Status
from shared.jobs.table import Job
from shared.media import assets
from shared.media.assets import Asset

STORING_PROGRESS = 95


class AssetView(BaseModel):
    """A stored file; `url` is presigned and expires within the hour."""

    id: str
    role: Annotated[str, Field(description="Which of several: `vocals`, `accompaniment`, `srt`, `vtt`, `words`.")] = ""
    content_type: str
    url: str
    bytes: int
    sha256: Annotated[str | None, Field(description="Of the whole file, in hex; null for uploads.")] = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None

    @classmethod
    def of(cls, asset: Mapping[str, Any]) -> Self:
        """From an asset's fields; signing the URL needs no call."""
        return cls.model_validate({**asset, "url": assets.url(asset["key"])})


class LibraryAsset(AssetView):
    """An asset with where it came from. `probe` is what the inspection of an upload has found; the URLs of its
    previews are presigned, too."""

    kind: Annotated[str, Field(description="The kind of its job; of an upload `image`, `video`, `audio`, `captions`.")]
    source: Annotated[str, Field(description="`generation`, `upload`, `export` or `stock`.")]
    job_id: str | None = None
    name: str | None = None
    prompt: str | None = None
    tags: list[str] = []
    attribution: Annotated[
        dict[str, str] | None, Field(description="Of stock: who made it; show `text` with a link to `page_url`.")
    ] = None
    probe: dict[str, Any] | None = None
    thumbnail_url: str | None = None
    waveform_url: str | None = None
    peaks_url: Annotated[str | None, Field(description="JSON as audiowaveform writes it, version 2.")] = None
    created_at: str
    deleted_at: Annotated[str | None, Field(description="It can be restored for seven days from then.")] = None

    @classmethod
    def of(cls, asset: Mapping[str, Any]) -> Self:
        previews = {f"{name}_url": assets.url(key) for name, key in asset.get("previews", {}).items()}
        told = {**asset, **previews, "tags": list(asset.get("tags", ())), "url": assets.url(asset["key"])}
        return cls.model_validate(told)


class CreditsOfJob(BaseModel):
    """`held` is what the job was accepted for, `charged` what it has cost in the end."""

    held: int
    charged: int


class JobError(BaseModel):
    code: str
    detail: str


class JobView(BaseModel):
    """A job: what was asked for, how far it is, what came of it and what it cost."""

    model_config = ConfigDict(title="Job")

    id: str
    kind: Kind
    model: str
    status: Status
    progress: Annotated[int, Field(ge=0, le=100)]
    credits: CreditsOfJob
    assets: list[AssetView]
    error: JobError | None
    metadata: dict[str, str]
    callback_url: str | None = None
    created_at: str
    updated_at: str
    deadline: str

    @classmethod
    def of(cls, job: Job) -> "JobView":
        return cls(
            id=job.id,
            kind=job.kind,
            model=job.model,
            status=job.status,
            progress=progress(job, current_time()),
            credits=CreditsOfJob(held=job.hold, charged=job.charged),
            assets=[AssetView.of(asset) for asset in job.assets],
            error=JobError(code=job.error.code, detail=job.error.detail) if job.error else None,
            metadata=job.metadata,
            callback_url=job.callback_url,
            created_at=job.created_at,
            updated_at=job.updated_at,
            deadline=iso(job.deadline_at),
        )


class JobPage(BaseModel):
    items: list[JobView]
    next_cursor: str | None


class Estimate(BaseModel):
    """What it would cost: the most, in credits, for so many `units` of the model's price."""

    kind: Kind
    model: str
    credits: int
    units: float
    per: str


class EstimateView(BaseModel):
    estimate: Estimate


def progress(job: Job, now: float) -> int:
    """0–100: what the provider tells, or an estimate from how long the model usually takes, whichever is further. Both
    only grow, and the estimate never gets where only a result does."""
    match job.status:
        case "succeeded":
            return 100
        case "storing":
            return STORING_PROGRESS
        case "processing":
            model = catalog.models().get(job.model)
            expected = (model.expected_s if model else 60) * settings().time_scale
            estimate = 90 * (1 - math.exp(-max(0.0, now - job.accepted_at) / expected))
            return min(STORING_PROGRESS - 1, max(job.progress, round(estimate)))
    return 0 if not job.terminal else job.progress


def summary(asset: Asset) -> dict[str, Any]:
    """What of an asset is kept on its job."""
    kept = ("id", "role", "key", "content_type", "bytes", "sha256", "width", "height", "duration_s")
    return {name: getattr(asset, name) for name in kept if getattr(asset, name) is not None}
