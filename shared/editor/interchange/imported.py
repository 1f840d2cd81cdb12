"""What an import tells, whatever the format: the document, what is not in it, and the media that are not known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from shared.editor import check, timeline
from shared.editor.timeline import AudioClip, Document
from shared.media.notes import Note, Notes


class NotImportable(ValueError):
    """The file is no timeline that we can read; says why, and where."""


@dataclass(frozen=True)
class Imported:
    """A document, what of the file is not in it, and the media that are not known: by the variable that stands for
    each of them, where it was in the file."""

    document: Document
    lost: tuple[Note, ...]
    missing: dict[str, str]


@dataclass
class Media:
    """Which asset a medium is. One that is not known gets a variable, so that its clips keep their places and times."""

    known: Mapping[str, str]
    notes: Notes
    variables: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def asset(self, names: Iterable[str], where: str, own: Any = None) -> str:
        """The asset that has one of the names, or that our own file names, or the variable that stands for it."""
        called = [name for name in names if name]
        for asset in (next((self.known[name] for name in called if name in self.known), None), own, *called[:1]):
            if self._is_asset(asset):
                return str(asset)
        place = next(iter(called), "")
        for name, where_it_was in self.missing.items():
            if place and where_it_was == place:
                return f"{{{{{name}}}}}"
        number = 1
        while f"media_{number}" in self.variables:
            number += 1
        self.missing[f"media_{number}"] = place or where
        self.variables[f"media_{number}"] = {"type": "asset", "description": title(place or where)}
        self.notes.add(where, "media that are not known: a variable stands for each")
        return f"{{{{media_{number}}}}}"

    def _is_asset(self, told: Any) -> bool:
        try:
            asset = AudioClip(asset=told, start=0.0).asset
        except ValidationError:
            return False
        held = timeline.PLACEHOLDER.fullmatch(asset)
        return held is None or self.variables.get(held[1], {}).get("type") == "asset"


def finished(raw: Mapping[str, Any], media: Media) -> Imported:
    """Raises check.Flawed if it is no document."""
    document = check.parse(raw)
    if flaws := list(check.flaws(document)):
        raise check.Flawed(flaws)
    return Imported(document, media.notes.all(), media.missing)


def title(name: str) -> str:
    """A name as one line of a bearable length."""
    shown = "".join(letter if letter.isprintable() else " " for letter in name).strip()
    return shown[:200] or "Untitled"
