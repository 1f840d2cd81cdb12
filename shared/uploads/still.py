"""Images: how large they are as they are to be seen, and whether they decode to the end."""

from typing import BinaryIO

from PIL import Image, ImageOps

from shared.media import images
from shared.media.images import NotAnImage
from shared.uploads import matrix
from shared.uploads.film import THUMBNAIL_SIDE, Found
from shared.uploads.limits import Rejected
from shared.uploads.probe import Probe, Still

ORIENTATION = 0x0112
MOST_FRAMES = 2000


def examine(file: BinaryIO, media_type: str) -> Found:
    """What an image has that by its first bytes is of `media_type`, and a small copy of it. Raises Rejected."""
    try:
        images.measure(file, media_type)
    except NotAnImage as error:
        too_large = "too many" in str(error)
        raise Rejected("too_many_pixels" if too_large else "corrupt", f"the image does not decode: {error}") from error
    file.seek(0)
    with Image.open(file, formats=[images.FORMATS[media_type]]) as image:
        frames = int(getattr(image, "n_frames", 1))
        if frames > MOST_FRAMES:
            raise Rejected("too_long", f"the image has {frames} frames; {MOST_FRAMES} are allowed")
        rotation, mirrored = matrix.EXIF.get(image.getexif().get(ORIENTATION, 1), (0, False))
        width, height = image.size
        display = matrix.shown(width, height, rotation)
        alpha = image.has_transparency_data
        still = Still(width, height, *display, rotation, mirrored, alpha, frames)
        small = ImageOps.exif_transpose(image).convert("RGBA" if alpha else "RGB")
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return Found(Probe(media_type, still=still), small)
