"""Pictures that look like an answer to their prompt and differ where a real model's would."""

import colorsys
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont, ImageOps

ImageFormat = Literal["png", "webp", "jpg"]
CONTENT_TYPES: dict[ImageFormat, str] = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}
# Speed matters more than size: level 1 makes a picture in a few tens of milliseconds.
ENCODERS: dict[ImageFormat, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {"compress_level": 1}),
    "webp": ("WEBP", {"quality": 80, "method": 0}),
    "jpg": ("JPEG", {"quality": 85}),
}
LONG_SIDE = 768


@dataclass(frozen=True, slots=True)
class Picture:
    """The recipe of a picture: equal recipes render to equal bytes, so nothing needs to be stored."""

    caption: str
    seed: int
    index: int
    width: int
    height: int
    format: ImageFormat = "png"

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self.format]


def frame(aspect_ratio: str, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Width and height in pixels for a ratio such as `16:9`. Raises ValueError."""
    across, down = (int(part) for part in aspect_ratio.split(":"))
    if not (0 < across <= 100 and 0 < down <= 100):
        raise ValueError(f"not an aspect ratio: {aspect_ratio}")
    scale = long_side / max(across, down)
    return max(16, round(across * scale)), max(16, round(down * scale))


@lru_cache(maxsize=64)
def render(picture: Picture) -> bytes:
    """Takes some tens of milliseconds of processor time: call it in a thread."""
    digest = hashlib.sha256(f"{picture.caption}|{picture.seed}|{picture.index}".encode()).digest()
    image = _background(picture.width, picture.height, digest)
    _write(image, picture.caption, f"simulated - seed {picture.seed} - output {picture.index}")
    kind, options = ENCODERS[picture.format]
    encoded = BytesIO()
    image.save(encoded, kind, **options)
    return encoded.getvalue()


@lru_cache(maxsize=16)
def caption_png(caption: str, width: int, height: int) -> bytes:
    """The caption alone, on glass: what a film shows over its moving pictures."""
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    _write(image, caption, "simulated")
    encoded = BytesIO()
    image.save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _background(width: int, height: int, digest: bytes) -> Image.Image:
    ramp = Image.linear_gradient("L").rotate(90 * (digest[0] % 4)).resize((width, height))
    hue = digest[1] / 256
    image = ImageOps.colorize(ramp, black=_colour(hue, 0.25), white=_colour(hue + 0.15, 0.85))
    draw = ImageDraw.Draw(image)
    for x, y, size, tint in zip(digest[2:8], digest[8:14], digest[14:20], digest[20:26], strict=True):
        radius = max(2, min(width, height) * (size + 64) // 2048)
        centre_x, centre_y = width * x // 255, height * y // 255
        box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        draw.ellipse(box, fill=_colour(hue + tint / 512, 0.4 + tint / 512))
    return image


def _colour(hue: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, 0.65, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _write(image: Image.Image, caption: str, footer: str) -> None:
    """Draw the caption as large as fits; what does not fit at the smallest size is left out."""
    draw = ImageDraw.Draw(image)
    margin = max(4, min(image.size) // 16)
    room_across, room_down = image.width - 2 * margin, image.height - 3 * margin
    # A caption beyond this length would be unreadable anyway, and measuring it takes time.
    shown = caption[:600]
    for size in (48, 32, 22, 14):
        font = ImageFont.load_default(size)
        lines = _wrap(shown, font, room_across)
        if len(lines) * size * 1.3 <= room_down:
            break
    lines = lines[: max(1, int(room_down // (size * 1.3)))]
    text = "\n".join(lines)
    draw.multiline_text((margin, margin), text, "white", font, spacing=size * 0.3, stroke_width=2, stroke_fill="black")
    small = ImageFont.load_default(12)
    draw.text((margin, image.height - margin - 6), footer, "white", small, stroke_width=1, stroke_fill="black")


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
