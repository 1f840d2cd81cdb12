"""The catalogue of models (catalog.toml): what is on offer, what it costs, how long it may take."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

Kind = Literal["image", "portrait"]


@dataclass(frozen=True)
class Price:
    """`credits` for every unit; the unit is what the provider delivers."""

    per: Literal["image"]
    credits: int

    def of(self, units: int) -> int:
        return self.credits * units


@dataclass(frozen=True)
class Model:
    """A section of catalog.toml; its comments say what the fields mean."""

    id: str
    title: str
    kinds: tuple[Kind, ...]
    provider: str
    provider_model: str
    price: Price
    deadline_s: int
    abandon_s: int
    largest_bytes: int
    max_count: int
    aspect_ratios: tuple[str, ...]
    input: dict[str, str]
    fixed: dict[str, Any] = field(default_factory=dict)

    def provider_input(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request's fields under the provider's names, with what is fixed for this model."""
        named = {self.input[name]: value for name, value in request.items() if name in self.input and value is not None}
        return {**self.fixed, **named}


@cache
def models() -> dict[str, Model]:
    """Every model by its id, in the file's order. Raises ValueError for a catalogue that contradicts itself."""
    text = resources.files("shared").joinpath("catalog.toml").read_text()
    return parse(text)


def parse(text: str) -> dict[str, Model]:
    found = {}
    for model_id, section in tomllib.loads(text).items():
        price = Price(**section.pop("price"))
        kinds, ratios = tuple(section.pop("kinds")), tuple(section.pop("aspect_ratios"))
        model = Model(id=model_id, price=price, kinds=kinds, aspect_ratios=ratios, **section)
        if not 0 < model.deadline_s < model.abandon_s or price.credits < 1 or not kinds or not ratios:
            raise ValueError(f"catalog.toml: {model_id} has impossible numbers")
        found[model_id] = model
    return found


def of_kind(kind: Kind) -> list[Model]:
    """The models that serve a kind; the first is its default."""
    return [model for model in models().values() if kind in model.kinds]
