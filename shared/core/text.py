"""Text that callers give us."""

from typing import Annotated

from pydantic import AfterValidator


def storable(text: str) -> str:
    """The text. Refuse what no database or log should have to carry: NUL and lone surrogates."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


Text = Annotated[str, AfterValidator(storable)]
