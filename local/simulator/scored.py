"""Answers about moments of a video in whatever JSON shape was asked for, the same for the same question."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.simulator.recordings import seed_of
from local.simulator.transcripts import SENTENCES

# Names of properties that say when something begins and ends, lower-case, without separators.
STARTS = {"start", "starts", "starttime", "startseconds", "from", "time", "timestamp", "at", "seconds", "t"}
ENDS = {"end", "ends", "endtime", "endseconds", "to", "until"}
INDICES = {"index", "frame", "frameindex", "id", "number", "segment", "i"}
LABELS = ("establishing", "close-up", "action", "landscape", "transition")
DEFAULT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "segments": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "start": {"type": "number"},
                    "end": {"type": "number"},
                    "score": {"type": "number"},
                    "label": {"type": "string"},
                    "description": {"type": "string"},
                },
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Times in seconds."""

    index: int
    start: float
    end: float


def answer(question: str, moments: list[Moment], schema: Mapping[str, Any] | None) -> str:
    """JSON by `schema` (OpenAPI or JSON Schema); without one, scored segments."""
    return json.dumps(_value(schema or DEFAULT_SCHEMA, "", None, moments, question))


def _value(schema: Mapping[str, Any], name: str, at: Moment | None, moments: list[Moment], question: str) -> Any:
    kind = schema.get("type")
    # JSON Schema allows several; the first that is not null will do.
    kind = next((one for one in kind if one != "null"), "string") if isinstance(kind, list) else kind
    match str(kind).lower():
        case "object":
            properties = schema.get("properties") or {}
            return {key: _value(of, key, at, moments, question) for key, of in properties.items()}
        case "array":
            items = schema.get("items") or {"type": "string"}
            if at is not None:
                return [_value(items, name, at, moments, question)]
            return [_value(items, name, moment, moments, question) for moment in moments]
        case "boolean":
            return _number(name, at, question) % 2 == 0
        case "number" | "integer" as numeric:
            value = _numeric(schema, name, at, moments, question)
            return round(value) if numeric == "integer" else value
        case _:
            return _text(schema, name, at, question)


def _numeric(schema: Mapping[str, Any], name: str, at: Moment | None, moments: list[Moment], question: str) -> float:
    plain = name.lower().replace("_", "").removesuffix("s" if name.lower().endswith("_s") else "\0")
    if at is not None and plain in INDICES:
        return at.index
    if at is not None and plain in STARTS:
        return at.start
    if at is not None and plain in ENDS:
        return at.end
    if plain.startswith("duration"):
        return round(at.end - at.start if at else sum(moment.end - moment.start for moment in moments), 3)
    least, most = float(schema.get("minimum", 0)), float(schema.get("maximum", 1))
    return round(least + (most - least) * (_number(name, at, question) % 1000) / 1000, 3)


def _text(schema: Mapping[str, Any], name: str, at: Moment | None, question: str) -> str:
    number = _number(name, at, question)
    if schema.get("enum"):
        return str(schema["enum"][number % len(schema["enum"])])
    if name.lower() in ("label", "kind", "type", "category", "tag", "tags"):
        return LABELS[number % len(LABELS)]
    return SENTENCES[number % len(SENTENCES)]


def _number(name: str, at: Moment | None, question: str) -> int:
    return seed_of(f"{question}|{name}|{at.start if at else ''}")
