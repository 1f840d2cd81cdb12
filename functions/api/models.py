"""GET /v1/models: the catalogue, with prices, limits, defaults and the JSON schema of each kind's request."""

from typing import Any

from pydantic import BaseModel

from shared.core import web
from shared.jobs import catalog
from shared.jobs.catalog import Kind, Model
from shared.jobs.requests import REQUESTS

app = web.Api()


class PriceView(BaseModel):
    """`credits` for every unit of `per`."""

    per: str
    credits: int


class Limits(BaseModel):
    max_count: int
    aspect_ratios: list[str]
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
    limits: Limits
    defaults: dict[str, Any]
    input_schema: dict[str, Any]

    @classmethod
    def of(cls, model: Model, kind: Kind, *, default: bool) -> "ModelView":
        return cls(
            id=model.id,
            kind=kind,
            title=model.title,
            provider=model.provider,
            default=default,
            price=PriceView(per=model.price.per, credits=model.price.credits),
            limits=Limits(
                max_count=model.max_count,
                aspect_ratios=list(model.aspect_ratios),
                largest_bytes=model.largest_bytes,
                deadline_s=model.deadline_s,
            ),
            defaults={"count": 1, "aspect_ratio": model.aspect_ratios[0]},
            input_schema=REQUESTS[kind].model_json_schema(),
        )


class ModelPage(BaseModel):
    items: list[ModelView]
    next_cursor: str | None = None


@app.get("/v1/models")
def list_models() -> ModelPage:
    return ModelPage(
        items=[
            ModelView.of(model, kind, default=number == 0)
            for kind in REQUESTS
            for number, model in enumerate(catalog.of_kind(kind))
        ]
    )


handler = web.handler(app)
