"""Films and sounds: what they have, and whether their beginning and their end decode.

MediaInfo is asked first (`tracks`), FFmpeg second; where the two disagree, FFmpeg's word counts, since it is what will
read the file later. Neither reads the whole file, but for short sounds that do not tell their length.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.stream import Discard
from PIL import Image

from shared.media.probe import DEMUXERS, NotMedia, check_whole
from shared.uploads import matrix, tracks
from shared.uploads.limits import FASTEST_RATE, LARGEST_PICTURE, LONGEST_S, LONGEST_SIDE, MOST_TRACKS, Rejected, family
from shared.uploads.probe import Picture, Probe, Sound
from shared.uploads.tracks import Told

HEAD_S = 1.0
TAIL_S = 1.0
MISSING_S = 1.0
# A picture whose last keyframe is further from the end is not decoded from there: a screen recording may have only one.
LONGEST_GOP_S = 10.0
# Of a large file less is decoded where a second of it is much: so many bytes of it, and so much of its length.
LARGE = 50_000_000
LARGE_HEAD = 0.005
LARGE_TAIL = 0.02
MOST_PACKETS = 20_000
THUMBNAIL_S = 0.5
THUMBNAIL_SIDE = 512

# The formats (MediaInfo's names) that each media type may have; brands of MP4 are told by the first bytes.
FORMATS = {
    "video/mp4": {"MPEG-4"},
    "video/quicktime": {"MPEG-4", "QuickTime"},
    "audio/mp4": {"MPEG-4"},
    "video/webm": {"WebM"},
    "audio/webm": {"WebM"},
    "audio/mpeg": {"MPEG Audio"},
    "audio/aac": {"ADTS"},
    "audio/wav": {"Wave"},
    "audio/flac": {"FLAC"},
    "audio/ogg": {"Ogg"},
}
# Without a picture, a container of films is one of sounds.
SOUND_ONLY = {"video/mp4": "audio/mp4", "video/quicktime": "audio/mp4", "video/webm": "audio/webm"}

# WAV does not name what needs no name.
LAYOUTS = {1: "mono", 2: "stereo"}

# ISO/IEC 23091-2 (H.273).
PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "smpte432"}
TRANSFERS = {
    1: "bt709",
    6: "smpte170m",
    13: "srgb",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
MATRICES = {0: "rgb", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc", 10: "bt2020c"}
HDR = {16: "pq", 18: "hlg"}


@dataclass(frozen=True)
class Found:
    """The probe, and a picture to show for a film."""

    probe: Probe
    thumbnail: Image.Image | None = None


def examine(file: BinaryIO, media_type: str, time_left: Callable[[], float]) -> Found:
    """What a seekable file has that by its first bytes is of `media_type`. Raises Rejected."""
    told = tracks.read(file)
    if told.format is not None and told.format not in FORMATS[media_type]:
        raise Rejected("wrong_type", f"the file is {told.format}, which is not what {media_type} is")
    if not told.tracks:
        raise Rejected("no_index", "the file does not say what is in it: its recording or its way here broke off")
    if told.truncated:
        raise Rejected("truncated", "the file ends before its index says that it does")
    try:
        check_whole(file, media_type)
        options = {"protocol_whitelist": ""}
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        with av.open(file, "r", format=DEMUXERS[media_type], options=options) as container:
            return _Film(container, told, media_type, time_left, is_large=size > LARGE).examine()
    except NotMedia as error:
        raise Rejected("truncated", str(error)) from error
    except (FFmpegError, OSError, ValueError, EOFError) as error:
        raise Rejected("corrupt", "the file does not decode") from error


class _Film:
    """One opened file."""

    def __init__(
        self, container: Any, told: Told, media_type: str, time_left: Callable[[], float], *, is_large: bool
    ) -> None:
        self.is_large = is_large
        self.container = container
        self.told = told
        self.media_type = media_type
        self.time_left = time_left
        streams = container.streams
        if len(streams) > MOST_TRACKS:
            raise Rejected("too_many_tracks", f"the file has {len(streams)} tracks; {MOST_TRACKS} are allowed")
        attached = av.stream.Disposition.attached_pic
        self.pictures = [stream for stream in streams.video if not stream.disposition & attached]
        self.sounds = list(streams.audio)
        for stream in [*self.pictures, *self.sounds]:
            # Frames of other threads would have to be kept as well.
            stream.codec_context.thread_count = 1

    def examine(self) -> Found:
        media_type = self.media_type if self.pictures else SOUND_ONLY.get(self.media_type, self.media_type)
        if not self.pictures and not self.sounds:
            raise Rejected("no_media", "the file has neither pictures nor sound")
        if self.pictures:
            self._check_size(self.pictures[0].codec_context)
        start, duration = self._span()
        self._check_length(media_type, duration)
        frame = None
        for stream in [*self.pictures[:1], *self.sounds]:
            first = self._decode(stream, start, duration)
            frame = first if stream.type == "video" else frame
        picture = self._picture(frame, duration) if frame is not None else None
        sounds = tuple(self._sound(stream, start, duration) for stream in self.sounds)
        probe = Probe(media_type, round(duration, 3), round(start, 3), picture, sounds)
        return Found(probe, thumbnail(frame, picture) if frame is not None and picture is not None else None)

    def _check_size(self, codec: Any) -> None:
        """Before anything is decoded: a header may promise a picture of any size."""
        width, height = codec.width, codec.height
        if width < 1 or height < 1:
            raise Rejected("corrupt", "the picture has no size")
        if width * height > LARGEST_PICTURE or max(width, height) > LONGEST_SIDE:
            raise Rejected("too_many_pixels", f"{width} × {height} pixels are too many; {LARGEST_PICTURE} are allowed")

    def _check_length(self, media_type: str, duration: float) -> None:
        longest = LONGEST_S[family(media_type)]
        if duration > longest:
            raise Rejected("too_long", f"the file is {duration:.0f} s long; {longest:.0f} s are allowed")

    def _span(self) -> tuple[float, float]:
        """When the file begins by its own clock, and how long it is."""
        start = (self.container.start_time or 0) / av.time_base
        if self.told.duration_s is None and not self.pictures:
            # FFmpeg would guess from the bit rate of the beginning.
            return start, self._counted(self.sounds[0])
        if not self.container.duration:
            raise Rejected("corrupt", "the file does not tell how long it is")
        # Sound begins a moment before the pictures where its encoder had to be primed.
        begins = [stream.start_time * stream.time_base for stream in self.pictures[:1] if stream.start_time is not None]
        end = start + self.container.duration / av.time_base
        start = float(max([Fraction(start), *begins])) if begins and float(begins[0]) - start < MISSING_S else start
        return start, end - start

    def _counted(self, stream: Any) -> float:
        """How long all packets are together: of sounds, which are small."""
        length = 0
        for packet in self.container.demux(stream):
            self._check_time()
            length += packet.duration or 0
        if length <= 0:
            raise Rejected("empty", "the file has no sound in it")
        return float(length * stream.time_base)

    def _decode(self, stream: Any, start: float, duration: float) -> Any:
        """A frame of the beginning, after the first and the last second of a track have been decoded."""
        for other in self.container.streams:
            # What is not wanted is not even read.
            other.discard = Discard.default if other is stream else Discard.all
        chosen = self._head(stream, start, min(HEAD_S, LARGE_HEAD * duration) if self.is_large else HEAD_S)
        length = float(stream.duration * stream.time_base) if stream.duration else duration
        self._tail(stream, start, min(length, duration))
        return chosen

    def _head(self, stream: Any, start: float, length: float) -> Any:
        self._seek(start)
        chosen = None
        for frame in self._frames(self.container.decode(stream)):
            at = (frame.time if frame.time is not None else start) - start
            if chosen is None or at <= THUMBNAIL_S:
                chosen = frame
            if at >= length:
                break
        if chosen is None:
            raise Rejected("corrupt", f"nothing of the {stream.type} decodes")
        return chosen

    def _tail(self, stream: Any, start: float, duration: float) -> None:
        furthest = LARGE_TAIL * duration if self.is_large else LONGEST_GOP_S
        wanted = start + max(0.0, duration - (min(TAIL_S, furthest / 2)))
        self._seek(wanted)
        last: float | None = None
        key: float | None = None
        for packet in self._frames(self.container.demux(stream)):
            at = float(packet.pts * stream.time_base) if packet.pts is not None else None
            if key is None and at is not None:
                if stream.type == "video" and wanted - at > furthest:
                    return self._present(stream, start, duration)
                key = at
            if at is not None and key is not None and at < key:
                continue  # It leads the keyframe and needs pictures from before it.
            for frame in packet.decode():
                if frame.time is not None:
                    last = max(last or 0.0, frame.time)
        self._check_end(stream, last, start, duration)
        return None

    def _present(self, stream: Any, start: float, duration: float) -> None:
        """Whether the last second has packets, where decoding it would mean to decode nearly everything."""
        length = min(TAIL_S, LARGE_HEAD * duration) if self.is_large else TAIL_S
        self.container.seek(int((start + max(0.0, duration - length)) * av.time_base), any_frame=True)
        last: float | None = None
        for packet in self._frames(self.container.demux(stream)):
            if packet.pts is not None and packet.size:
                last = max(last or 0.0, float(packet.pts * stream.time_base))
        self._check_end(stream, last, start, duration)

    def _check_end(self, stream: Any, last: float | None, start: float, duration: float) -> None:
        if last is None:
            raise Rejected("corrupt", f"the end of the {stream.type} does not decode")
        # A container may promise more than the file has.
        if last - start < duration - MISSING_S:
            raise Rejected("truncated", f"the {stream.type} ends after {last - start:.1f} of {duration:.1f} s")

    def _seek(self, seconds: float) -> None:
        self.container.seek(int(seconds * av.time_base))

    def _frames(self, source: Iterator[Any]) -> Iterator[Any]:
        """The frames or packets, while there is time, and not more than any sane second has."""
        for number, one in enumerate(source):
            self._check_time()
            if number >= MOST_PACKETS:
                raise Rejected("corrupt", "a second of the file has too many parts")
            yield one

    def _check_time(self) -> None:
        if self.time_left() <= 0:
            raise Rejected("too_slow", "the file could not be examined in time")

    def _picture(self, frame: Any, duration: float) -> Picture:
        stream = self.pictures[0]
        codec = stream.codec_context
        shape = frame.side_data.get(Type.DISPLAYMATRIX)
        rotation, mirrored = matrix.turned(bytes(shape)) if shape else (0, False)
        aspect = Fraction(stream.sample_aspect_ratio or codec.sample_aspect_ratio or 1) or Fraction(1)
        display = matrix.shown(max(1, round(codec.width * aspect)), codec.height, rotation)
        frames = stream.frames or self.told.frames
        rate, variable = frame_rate(
            base=stream.base_rate,
            average=stream.average_rate,
            frames=frames,
            uneven=self.told.variable,
            duration=float(stream.duration * stream.time_base) if stream.duration else duration,
        )
        if rate > FASTEST_RATE:
            raise Rejected("too_fast", f"{float(rate):.0f} frames a second are too many; {FASTEST_RATE} are allowed")
        return Picture(
            codec=codec.name,
            width=codec.width,
            height=codec.height,
            display_width=display[0],
            display_height=display[1],
            frame_rate=f"{rate.numerator}/{rate.denominator}",
            variable_frame_rate=variable,
            rotation=rotation,
            mirrored=mirrored,
            pixel_aspect=f"{aspect.numerator}/{aspect.denominator}",
            frames=frames,
            pixel_format=frame.format.name,
            bit_depth=frame.format.components[0].bits,
            chroma=self.told.chroma,
            interlaced=self.told.interlaced or bool(frame.interlaced_frame),
            hdr=HDR.get(int(frame.color_trc)),
            color_primaries=PRIMARIES.get(int(frame.color_primaries)),
            color_transfer=TRANSFERS.get(int(frame.color_trc)),
            color_matrix=MATRICES.get(int(frame.colorspace)),
        )

    def _sound(self, stream: Any, start: float, duration: float) -> Sound:
        codec = stream.codec_context
        own = float(stream.duration * stream.time_base) if stream.duration and self.told.duration_s else duration
        begins = float(stream.start_time * stream.time_base) - start if stream.start_time is not None else 0.0
        return Sound(
            codec=codec.name,
            channels=codec.channels,
            layout=LAYOUTS.get(codec.channels, codec.layout.name),
            sample_rate=codec.sample_rate,
            duration_s=round(own, 3),
            start_s=round(max(0.0, begins), 3),
        )


def frame_rate(
    *, base: Fraction | None, average: Fraction | None, frames: int | None, uneven: bool, duration: float
) -> tuple[Fraction, bool]:
    """The rate, and whether it varies. `base` is the rate on whose grid all frames lie, `average` how many there are in
    a second, `uneven` what MediaInfo says.

    The last frame of a fragmented file may be longer than the others: that is no variable rate, and all the frames at
    the base rate are as long as the file but for one.
    """
    if not base and not average:
        raise Rejected("corrupt", "the picture has no frame rate")
    if not base or not average:
        return base or average or Fraction(0), uneven
    whole = frames is not None and abs(frames / float(base) - duration) <= 1.5 / float(base)
    if uneven and not whole:
        return average, True
    if not uneven and frames is None and abs(base / average - 1) > Fraction(1, 20):
        return average, True
    return base, False


def thumbnail(frame: Any, picture: Picture) -> Image.Image:
    """The frame as it is to be seen."""
    image: Image.Image = frame.to_image()
    if picture.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = matrix.shown(picture.display_width, picture.display_height, picture.rotation)
    scale = min(1.0, THUMBNAIL_SIDE / max(width, height))
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    return image.rotate(-picture.rotation, expand=True)
