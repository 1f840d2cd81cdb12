"""Images: their size in pixels, and whether they decode to the end."""

import warnings
from typing import BinaryIO

from PIL import Image

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}

LARGEST_PIXELS = 64_000_000
"""64 megapixels, 256 MB decoded: more is refused by the header, before a pixel of it is decoded."""


class NotAnImage(Exception):
    """The file does not decode as what it says it is, ends too early, or is too large."""


def measure(file: BinaryIO, media_type: str) -> tuple[int, int]:
    """Width and height in pixels of an image that decodes completely. Raises NotAnImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=[FORMATS[media_type]]) as image:
                width, height = image.size
                if width * height > LARGEST_PIXELS:
                    raise NotAnImage(f"{width} × {height} pixels are too many")
                image.load()
                return width, height
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise NotAnImage(str(error)) from error
