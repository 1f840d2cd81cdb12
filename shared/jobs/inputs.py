"""The files that a request refers to: the caller's own assets, or https URLs."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from shared.core.settings import settings
from shared.jobs.catalog import Model
from shared.jobs.requests import Request, invalid
from shared.media import assets
from shared.media.assets import Asset


@dataclass(frozen=True)
class Inputs:
    """`keys` are the bucket keys of the fields that are assets; `seconds` is how long the input is that is paid for."""

    keys: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


def resolve(request: Request, model: Model, account: str) -> Inputs:
    """Look the request's files up. Raises Invalid for an asset that is not the account's, of the wrong type, or too
    long, and for a URL whose length must be told and is not."""
    keys: dict[str, str] = {}
    seconds: float | None = None
    timed = next(iter(request.media), None) if model.price.per == "second" and model.limits.max_input_s else None
    for name, families in request.media.items():
        reference = getattr(request, name)
        if reference is None:
            continue
        asset = _asset(name, reference, families, account) if reference.startswith("as_") else None
        if asset is None and not _may_be_fetched(reference):
            raise invalid(name, "must be an https URL")
        if asset is not None:
            keys[name] = asset.key
        if name == timed:
            seconds = _length(name, asset, getattr(request, "duration_s", None), model)
    return Inputs(keys, seconds)


def handed_on(fields: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
    """The fields with every asset as a presigned URL that the provider can read for an hour."""
    return {**fields, **{name: assets.url(key) for name, key in keys.items()}}


def _may_be_fetched(url: str) -> bool:
    """https, or an origin that this deployment allows by name (the local cloud's own)."""
    parts = urlsplit(url)
    return parts.scheme == "https" or f"{parts.scheme}://{parts.netloc}" in settings().allowed_private_origins


def _asset(name: str, asset_id: str, families: tuple[str, ...], account: str) -> Asset:
    asset = assets.find(asset_id, account=account)
    if asset is None:
        raise invalid(name, "there is no such asset")
    if not asset.content_type.startswith(families):
        wanted = " or ".join(family.rstrip("/") for family in families)
        raise invalid(name, f"the asset is {asset.content_type}; {wanted} is needed")
    return asset


def _length(name: str, asset: Asset | None, told: int | None, model: Model) -> float:
    seconds = asset.duration_s if asset is not None else told
    if seconds is None:
        raise invalid("duration_s", f"is needed: how many seconds the {name} is long")
    if model.limits.max_input_s is not None and seconds > model.limits.max_input_s:
        raise invalid(name, f"{model.id} takes at most {model.limits.max_input_s} seconds; this has {seconds:g}")
    return float(seconds)
