"""The catalogue of models (catalog.toml): what is on offer, what it costs, how long it may take."""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, get_args

from shared.core.settings import IN_HOUSE, PROVIDERS
from shared.providers.outcomes import ModelGone

Kind = Literal[
    "image",
    "portrait",
    "video",
    "character-video",
    "speech",
    "music",
    "transcription",
    "stems",
    "analysis",
    "silence-cuts",
]
Unit = Literal["image", "second", "character", "job"]
Family = Literal["image", "video", "audio", "transcript", "segments", "cuts"]

FAMILIES: Mapping[Kind, Family] = MappingProxyType(
    {
        "image": "image",
        "portrait": "image",
        "video": "video",
        "character-video": "video",
        "speech": "audio",
        "music": "audio",
        "transcription": "transcript",
        "stems": "audio",
        "analysis": "segments",
        "silence-cuts": "cuts",
    }
)
"""What a kind's results are."""


@dataclass(frozen=True)
class Price:
    """`credits` for every begun `every` units, at least `minimum`."""

    per: Unit
    credits: int
    every: int = 1
    minimum: int = 1

    def of(self, units: float) -> int:
        if units <= 0:
            return 0
        # A hundredth of a unit more than a whole number is rounding (5.004 s of a 5 s video), not one unit more.
        begun = math.ceil(round(units / self.every, 2) - 0.01)
        return max(self.minimum, self.credits * begun)


@dataclass(frozen=True)
class Limits:
    """What a request for this model may ask for; the first of a list is the default, None or empty: not offered."""

    max_count: int = 1
    aspect_ratios: tuple[str, ...] = ()
    durations_s: tuple[int, ...] = ()
    min_duration_s: int = 1
    max_duration_s: int | None = None
    max_characters: int | None = None
    voices: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    max_input_s: int | None = None


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
    expected_s: int
    largest_bytes: int
    limits: Limits
    input: dict[str, str]
    fixed: dict[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None
    successor: str | None = None

    def takes(self, name: str) -> bool:
        """Whether the provider is told of the request's field `name`."""
        return name in self.input

    def provider_input(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request's fields under the provider's names and in its types, with what is fixed for this model."""
        built = dict(self.fixed)
        for name, target in self.input.items():
            if request.get(name) is not None:
                path, _, conversion = target.partition(":")
                _put(built, path, CONVERSIONS[conversion](request[name]))
        return built

    def cost_of(self, units: float) -> float | None:
        """What the provider takes for `units`, in US dollars, as far as the catalogue knows."""
        return None if self.cost_usd is None else self.cost_usd * units


# The same concept has another type at every provider.
CONVERSIONS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "": lambda value: value,
        "string": str,
        "integer": int,
        "milliseconds": lambda value: int(value * 1000),
        "list": lambda value: [value],
        "negated": lambda value: not value,
    }
)


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set `a.b` in nested objects without touching those that are shared with the catalogue."""
    head, _, rest = path.partition(".")
    if not rest:
        document[head] = value
        return
    inner = dict(document.get(head) or {})
    _put(inner, rest, value)
    document[head] = inner


@cache
def models() -> dict[str, Model]:
    """Every model by its id, in the file's order. Raises ValueError for a catalogue that contradicts itself."""
    return parse(resources.files("shared").joinpath("catalog.toml").read_text())


def find(model_id: str) -> Model:
    """The model of a job. Raises ModelGone if the catalogue does not have it even as a retired one."""
    try:
        return models()[model_id]
    except KeyError as error:
        raise ModelGone(f"the catalogue has no {model_id}") from error


def parse(text: str) -> dict[str, Model]:
    """The models of a catalogue's text. Raises ValueError naming the section and what is wrong with it."""
    found = {}
    for model_id, section in tomllib.loads(text).items():
        try:
            found[model_id] = _model(model_id, section)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"catalog.toml: [{model_id}]: {error}") from error
    for model in found.values():
        if model.successor is not None and model.successor not in found:
            raise ValueError(f"catalog.toml: [{model.id}]: successor {model.successor} is not in the catalogue")
    return found


def _model(model_id: str, section: dict[str, Any]) -> Model:
    limits: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in section.pop("limits", {}).items()
    }
    model = Model(
        id=model_id,
        kinds=tuple(section.pop("kinds")),
        price=Price(**section.pop("price")),
        limits=Limits(**limits),
        **section,
    )
    if not model.kinds or not set(model.kinds) <= set(get_args(Kind)):
        raise ValueError(f"unknown kinds {model.kinds}")
    if model.provider not in (*PROVIDERS, IN_HOUSE):
        raise ValueError(f"unknown provider {model.provider}")
    if model.price.per not in get_args(Unit) or model.price.credits < 1 or model.price.every < 1:
        raise ValueError("impossible price")
    if not 0 < model.deadline_s < model.abandon_s or model.expected_s <= 0:
        raise ValueError("impossible times: 0 < deadline_s < abandon_s and 0 < expected_s are needed")
    for name, target in model.input.items():
        if target.partition(":")[2] not in CONVERSIONS:
            raise ValueError(f"input.{name}: unknown conversion in {target}")
    return model


def of_kind(kind: Kind) -> list[Model]:
    """The models that serve a kind and are not retired; the first is its default."""
    return [model for model in models().values() if kind in model.kinds and model.successor is None]
