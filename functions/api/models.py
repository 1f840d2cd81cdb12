"""GET /v1/models: the catalogue, with prices, limits, defaults and the JSON schema of each kind's request."""

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from shared.core import web
from shared.jobs import catalog
from shared.jobs.catalog import Kind, Model
from shared.jobs.requests import OF_PROJECTS, REQUESTS

app = web.Api()

OFFERED = {**REQUESTS, **OF_PROJECTS}


class PriceView(BaseModel):
    """`credits` for every begun `every` units of `per`, at least `minimum`."""

    per: str
    credits: int
    every: int
    minimum: int


class LimitsView(BaseModel):
    """What a request may ask for; an empty list or null: not offered, or not limited."""

    max_count: int
    aspect_ratios: list[str]
    durations_s: list[int]
    min_duration_s: int
    max_duration_s: int | None
    max_characters: int | None
    voices: list[str]
    formats: list[str]
    max_input_s: int | None
    largest_bytes: int
    deadline_s: int


class ModelView(BaseModel):
    """A model under one of its kinds; `default` is the one that a request of the kind gets without naming a model."""

    id: str
    kind: Kind
    title: str
    provider: str
    default: bool
    price: PriceView
    limits: LimitsView
    defaults: dict[str, Any]
    input_schema: dict[str, Any]

    @classmethod
    def of(cls, model: Model, kind: Kind, *, default: bool) -> "ModelView":
        limits: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(model.limits).items()
        }
        return cls(
            id=model.id,
            kind=kind,
            title=model.title,
            provider=model.provider,
            default=default,
            price=PriceView(**vars(model.price)),
            limits=LimitsView(**limits, largest_bytes=model.largest_bytes, deadline_s=model.deadline_s),
            defaults=_defaults(model, kind),
            input_schema=OFFERED[kind].model_json_schema(),
        )


def _defaults(model: Model, kind: Kind) -> dict[str, Any]:
    """What a request of the kind gets where it says nothing."""
    limits = model.limits
    firsts = {
        "aspect_ratio": limits.aspect_ratios,
        "duration_s": limits.durations_s,
        "voice": limits.voices,
        "format": limits.formats,
    }
    known = OFFERED[kind].model_fields
    own = {name: field.default for name, field in known.items() if field.default not in (None, PydanticUndefined, {})}
    return own | {name: offered[0] for name, offered in firsts.items() if offered and name in known}


class ModelPage(BaseModel):
    items: list[ModelView]
    next_cursor: str | None = None


@app.get("/v1/models")
def list_models() -> ModelPage:
    return ModelPage(
        items=[
            ModelView.of(model, kind, default=number == 0)
            for kind in OFFERED
            for number, model in enumerate(catalog.of_kind(kind))
        ]
    )


handler = web.handler(app)
