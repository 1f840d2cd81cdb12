"""JSON pointers (RFC 6901) from the locations that pydantic tells."""

from collections.abc import Mapping, Sequence
from typing import Any


def spelt(parts: Sequence[str | int]) -> str:
    """A JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def within(location: Sequence[str | int], document: Any) -> list[str | int]:
    """Where a location is in the document that was judged: the names of tags and types that pydantic puts between are
    no part of it. What is missing from an object is told as if it were there."""
    path: list[str | int] = []
    at = document
    for number, part in enumerate(location):
        inner = dict(enumerate(at)) if isinstance(at, list) else at if isinstance(at, Mapping) else {}
        if part in inner:
            path.append(part)
            at = inner[part]
        elif isinstance(at, Mapping) and number == len(location) - 1 and part not in ("[key]", at.get("type")):
            path.append(part)
    return path
