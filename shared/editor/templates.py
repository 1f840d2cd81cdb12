"""Templates: a project declares variables, and `{{name}}` stands for one in texts, assets, durations and styles.

Values are data. A value is put in once and not looked at again: one that contains `{{other}}` shows just that. What
would be markup to whoever draws the text is for him to escape.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.core.pointers import spelt
from shared.editor.timeline import (
    PLACEHOLDER,
    AssetId,
    Color,
    Document,
    Shown,
    Span,
    Styled,
    Variable,
    written,
)

Value = str | float

# What a variable of each type has to be, wherever it stands.
VALUES: Mapping[str, TypeAdapter[Any]] = {
    "text": TypeAdapter(Shown),
    "asset": TypeAdapter(AssetId),
    "number": TypeAdapter(Styled),
    "color": TypeAdapter(Color),
}
# Which types may stand where, by the name of the field.
PLACES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "number"),
    "asset": ("asset",),
    "duration": ("number",),
    "size": ("number",),
    "outline_width": ("number",),
    "color": ("color",),
    "background": ("color",),
    "outline_color": ("color",),
}
SPAN: TypeAdapter[Any] = TypeAdapter(Span)


class Unfit(Exception):
    """Values do not fit the variables; (pointer, detail) each."""

    def __init__(self, flaws: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{where}: {detail}" for where, detail in flaws))
        self.flaws = flaws


def numbers(variables: Mapping[str, Variable]) -> dict[str, float]:
    """The defaults of the number variables."""
    return {
        name: variable.default
        for name, variable in variables.items()
        if variable.type == "number" and isinstance(variable.default, float | int)
    }


def flaws(document: Document) -> Iterator[tuple[str, str]]:
    """What is wrong with the variables of a document and their use."""
    for name, variable in document.variables.items():
        if variable.default is not None:
            detail = _misfit(variable, variable.default)
            if detail:
                yield f"/variables/{name}/default", detail
    for path, key, text in _uses(written(document.timeline), ("timeline",)):
        for name in PLACEHOLDER.findall(text):
            used = document.variables.get(name)
            if used is None:
                yield spelt(path), f"there is no variable '{name}'"
            elif used.type not in PLACES[key]:
                yield spelt(path), f"the variable '{name}' is of the type {used.type}, not {PLACES[key][0]}"


def used(document: Document) -> set[str]:
    """The names of the variables that the timeline makes use of."""
    return {name for *_, text in _uses(written(document.timeline), ()) for name in PLACEHOLDER.findall(text)}


def values(document: Document, given: Mapping[str, Any]) -> dict[str, Value]:
    """The value of every variable: the given one, else the default. Raises Unfit, which names each that is unknown,
    missing or of another type."""
    found: dict[str, Value] = {}
    wrong = [
        (spelt(["variables", name]), f"there is no variable '{name}'")
        for name in given
        if name not in document.variables
    ]
    needed = used(document)
    for name, variable in document.variables.items():
        value = given.get(name, variable.default)
        where = spelt(["variables", name])
        if value is None:
            if name in needed or name in given:
                wrong.append((where, f"the variable '{name}' needs a value"))
            continue
        detail = _misfit(variable, value)
        if detail:
            wrong.append((where, f"the variable '{name}' {detail}"))
        else:
            found[name] = value
    if wrong:
        raise Unfit(wrong)
    return found


def rendered(document: Document, given: Mapping[str, Any]) -> Document:
    """The document with every variable's value in its place, and no variables. Raises Unfit.

    Texts may now contain what looks like a variable: it came with a value, and stands for nothing.
    """
    known = values(document, given)
    raw = written(document)
    raw.pop("variables", None)
    wrong = []
    for path, key, text in list(_uses(raw.get("timeline", {}), ("timeline",))):
        if key == "text":
            value: Value = PLACEHOLDER.sub(lambda found: _shown(known[found[1]]), text)
        else:
            name = PLACEHOLDER.findall(text)[0]
            value = known[name]
            detail = _refusal(SPAN, value) if key == "duration" else None
            if detail:
                wrong.append((spelt(["variables", name]), f"the variable '{name}' {detail}: it is a duration"))
        _put(raw, path, value)
    if wrong:
        raise Unfit(wrong)
    return Document.model_validate(raw)


def _misfit(variable: Variable, value: Any) -> str | None:
    """What is wrong with a value of a variable."""
    if variable.type != "text" and isinstance(value, str) and "{{" in value:
        return "must not be another variable"
    if variable.type == "number" and isinstance(value, str):
        return "must be a number"
    return _refusal(VALUES[variable.type], value)


def _refusal(adapter: TypeAdapter[Any], value: Any) -> str | None:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.9f}".rstrip("0").rstrip(".")


Path = tuple[str | int, ...]


def _uses(raw: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    """Every text of the document with a variable in it: where it is, its field, and the text."""
    inner = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in inner:
        if isinstance(value, str) and key in PLACES and re.search(PLACEHOLDER, value):
            yield (*path, key), str(key), value
        elif isinstance(value, dict | list):
            yield from _uses(value, (*path, key))


def _put(raw: Any, path: Path, value: Value) -> None:
    *to, last = path
    for part in to:
        raw = raw[part]
    raw[last] = value
