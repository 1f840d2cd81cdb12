"""What a file has, as it is kept with the asset and told to callers. Seconds, pixels, hertz."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Picture:
    """The pictures of a film. `width` and `height` are as stored, `display_width` and `display_height` as they are to
    be seen: pixels made square, turned `rotation` degrees clockwise. `frame_rate` is a fraction of whole numbers."""

    codec: str
    width: int
    height: int
    display_width: int
    display_height: int
    frame_rate: str
    variable_frame_rate: bool
    rotation: int = 0
    mirrored: bool = False
    pixel_aspect: str = "1/1"
    frames: int | None = None
    pixel_format: str = ""
    bit_depth: int = 8
    chroma: str | None = None
    interlaced: bool = False
    hdr: str | None = None
    color_primaries: str | None = None
    color_transfer: str | None = None
    color_matrix: str | None = None


@dataclass(frozen=True)
class Sound:
    """A track of sound; `start_s` is when it begins, counted from the beginning of the file."""

    codec: str
    channels: int
    layout: str
    sample_rate: int
    duration_s: float
    start_s: float = 0.0


@dataclass(frozen=True)
class Still:
    """An image. `width` and `height` are as stored, `display_…` as it is to be seen."""

    width: int
    height: int
    display_width: int
    display_height: int
    rotation: int = 0
    mirrored: bool = False
    alpha: bool = False
    frames: int = 1


@dataclass(frozen=True)
class Probe:
    """What a file has; `start_s` is the time that its own clock shows at its beginning."""

    content_type: str
    duration_s: float | None = None
    start_s: float = 0.0
    picture: Picture | None = None
    sounds: tuple[Sound, ...] = field(default=())
    still: Still | None = None
    cues: int | None = None

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Width and height as they are to be seen."""
        shown = self.picture or self.still
        return (shown.display_width, shown.display_height) if shown else (None, None)

    def document(self) -> dict[str, Any]:
        """As plain values, without what does not apply."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}
