"""The files of EXPORT.md, section 6, made on the spot by ffmpeg: what phones, cameras and people with bad luck upload.

Each is small and takes well under a second. `make` gives the bytes; what is to be found in them stands with the tests.
"""

import struct
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg

DEADLINE_S = 60

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1")
AAC = ("-c:a", "aac", "-b:a", "64k")


@dataclass(frozen=True)
class Sample:
    """A file: its declared media type, and the arguments that make it, or what is done to another file."""

    media_type: str
    extension: str
    arguments: tuple[str, ...] = ()
    of: str = ""
    mend: Callable[[bytes], bytes] = bytes


def picture(rate: str = "30", seconds: float = 2, size: str = "128x96") -> tuple[str, ...]:
    """A test picture that moves."""
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def tone(seconds: float = 2, rate: int = 48000, layout: str = "mono") -> tuple[str, ...]:
    """A sine."""
    return (
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency=440:sample_rate={rate}:duration={seconds},aformat=channel_layouts={layout}",
    )


def mp4(*arguments: str, extension: str = ".mp4") -> Sample:
    return Sample("video/quicktime" if extension == ".mov" else "video/mp4", extension, arguments)


def changed(of: str, mend: Callable[[bytes], bytes]) -> Sample:
    original = SAMPLES[of]
    return Sample(original.media_type, original.extension, of=of, mend=mend)


def _at_the_end(data: bytes, box: bytes) -> int:
    """Where a box of an MP4 begins that stands behind its media data."""
    return data.rindex(box) - 4


def _without_index(data: bytes) -> bytes:
    return data[: _at_the_end(data, b"moov")]


def _corrupt_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[: middle - 2000] + b"\xa5" * 4000 + data[middle + 2000 :]


def _corrupt_end(data: bytes) -> bytes:
    """Noise over the last quarter of the media data; the index, which comes first, stays as it is."""
    start = data.index(b"mdat") + 4
    cut = start + (len(data) - start) * 3 // 4
    return data[:cut] + b"\xa5" * (len(data) - cut)


def _promising_10_s(data: bytes) -> bytes:
    """The length that the header of a Matroska file tells (Duration, 0x4489, a double of milliseconds)."""
    at = data.index(b"\x44\x89\x88") + 3
    return data[:at] + struct.pack(">d", 10_000) + data[at + 8 :]


RATES = ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001")
HLG = ("-vf", "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc")
PQ = ("-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc")
BT709 = ("-vf", "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709")
VARIABLE = "select='not(mod(n\\,3))+lt(n\\,20)',setpts=PTS"

SAMPLES: dict[str, Sample] = {
    **{f"rate {rate}": mp4(*picture(rate), *X264) for rate in RATES},
    "variable rate": mp4(*picture("30"), "-vf", VARIABLE, "-fps_mode", "vfr", *X264),
    "start at 2 s": mp4(*picture(), *tone(), *X264, *AAC, "-output_ts_offset", "2", "-muxdelay", "0"),
    "audio shorter": mp4(*picture(), *tone(1), *X264, *AAC),
    "audio longer": mp4(*picture(), *tone(3), *X264, *AAC),
    "one frame": mp4(*picture(), *X264, "-frames:v", "1"),
    "HLG": mp4(*picture(), *X265, "-pix_fmt", "yuv420p10le", *HLG),
    "PQ": mp4(*picture(), *X265, "-pix_fmt", "yuv420p10le", *PQ),
    "tagged colour": mp4(*picture(), *X264, *BT709),
    "untagged colour": mp4(*picture(), *X264),
    "4:2:2": mp4(*picture(), *X264, "-pix_fmt", "yuv422p", extension=".mov"),
    "4:4:4": mp4(*picture(), *X264, "-pix_fmt", "yuv444p"),
    "odd size": mp4(*picture(), "-vf", "format=yuv444p,crop=127:95", *X264, "-pix_fmt", "yuv444p"),
    "non-square pixels": mp4(*picture(), "-vf", "setsar=4/3", *X264),
    "interlaced": mp4(*picture("25"), "-vf", "setfield=tff", *X264, "-flags", "+ildct+ilme", "-x264opts", "tff=1"),
    "open GOP": mp4(*picture(), *X264, "-g", "15", "-bf", "3", "-x264opts", "open-gop=1"),
    "single keyframe": mp4(*picture(seconds=30), *X264, "-g", "9999", "-keyint_min", "9999", "-sc_threshold", "0"),
    "VP9": Sample(
        "video/webm", ".webm", (*picture(), *tone(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus")
    ),
    "ProRes": mp4(*picture(), "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", extension=".mov"),
    "no audio": mp4(*picture(), *X264),
    "mono": mp4(*picture(), *tone(), *X264, *AAC),
    "5.1": mp4(*picture(), *tone(layout="5.1"), *X264, *AAC),
    "several tracks": mp4(
        *picture(),
        *tone(rate=48000),
        *tone(rate=44100),
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        *X264,
        *AAC,
        "-ar:a:1",
        "44100",
    ),
    "a film with a cover": mp4(
        *(*picture(), *tone(), "-i", "{JPEG}"),
        *("-map", "0", "-map", "1", "-map", "2", *X264, *AAC),
        *("-c:v:1", "copy", "-disposition:v:1", "attached_pic"),
    ),
    "Opus in MP4": mp4(*picture(), *tone(layout="stereo"), *X264, "-c:a", "libopus"),
    "all silence": Sample("audio/mp4", ".m4a", ("-f", "lavfi", "-i", "anullsrc=cl=stereo:r=48000:d=2", *AAC)),
    "no silence": Sample("audio/wav", ".wav", (*tone(layout="stereo"), "-c:a", "pcm_s16le")),
    "MP3 with a cover": Sample(
        "audio/mpeg",
        ".mp3",
        (
            *tone(),
            "-i",
            "{JPEG}",
            "-map",
            "0",
            "-map",
            "1",
            "-c:a",
            "libmp3lame",
            "-c:v",
            "copy",
            "-disposition:v",
            "attached_pic",
        ),
    ),
    "MP3 without a header": Sample(
        "audio/mpeg", ".mp3", (*tone(), "-c:a", "libmp3lame", "-q:a", "5", "-write_xing", "0", "-id3v2_version", "0")
    ),
    "ADTS": Sample("audio/aac", ".aac", (*tone(), *AAC, "-f", "adts")),
    "FLAC": Sample("audio/flac", ".flac", (*tone(rate=44100, layout="stereo"), "-c:a", "flac")),
    "Ogg Opus": Sample("audio/ogg", ".ogg", (*tone(), "-c:a", "libopus")),
    "sound in an MP4": Sample("audio/mp4", ".mp4", (*tone(), *AAC, "-f", "mp4")),
    "sound in a WebM": Sample("audio/webm", ".webm", (*tone(), "-c:a", "libopus")),
    "moov first": mp4(*picture(), *tone(), *X264, *AAC, "-movflags", "+faststart"),
    "moov at the end": mp4(*picture(), *tone(), *X264, *AAC),
    "fragmented": mp4(*picture(), *tone(), *X264, *AAC, "-movflags", "frag_keyframe+empty_moov", "-g", "15"),
    "JPEG": Sample("image/jpeg", ".jpg", (*picture(), "-frames:v", "1", "-c:v", "mjpeg")),
    "alpha PNG": Sample(
        "image/png", ".png", (*picture(), "-frames:v", "1", "-vf", "format=rgba,colorchannelmixer=aa=0.5")
    ),
    "WebP": Sample("image/webp", ".webp", (*picture(), "-frames:v", "1", "-c:v", "libwebp")),
    "GIF": Sample("image/gif", ".gif", picture("10")),
}
for degrees in (90, 180, 270):  # ffmpeg counts against the clock.
    SAMPLES[f"rotation {degrees}"] = Sample(
        "video/mp4", ".mp4", ("-display_rotation", str(-degrees), "-i", "{mono}", "-c", "copy")
    )
SAMPLES["mirrored"] = Sample("video/mp4", ".mp4", ("-display_hflip", "-i", "{mono}", "-c", "copy"))
SAMPLES |= {
    "no moov": changed("moov at the end", _without_index),
    "truncated": changed("moov first", lambda data: data[: len(data) * 6 // 10]),
    "corrupt middle": changed("moov first", _corrupt_middle),
    "corrupt end": changed("moov first", _corrupt_end),
    "shorter than it says": changed("VP9", _promising_10_s),
    "zero bytes": changed("no audio", lambda data: b""),
    "an MP4 that is called a MOV": Sample("video/quicktime", ".mov", of="no audio"),
    "a PNG that is called a JPEG": Sample("image/jpeg", ".jpg", of="alpha PNG"),
    "a sound that is called a film": Sample("video/mp4", ".mp4", of="sound in an MP4"),
    "a playlist": Sample(
        "video/mp4", ".mp4", of="no audio", mend=lambda _: b"#EXTM3U\n#EXTINF:2,\nhttp://192.0.2.1/x.ts\n"
    ),
    "a concat script": Sample(
        "video/mp4", ".mp4", of="no audio", mend=lambda _: b"ffconcat version 1.0\nfile 'x.mp4'\n"
    ),
    "a file URL": Sample("audio/mpeg", ".mp3", of="no audio", mend=lambda _: b"file:///etc/passwd\n"),
    "a playlist of a link-local address": Sample(
        "audio/mp4",
        ".m4a",
        of="no audio",
        mend=lambda _: b"#EXTM3U\n#EXTINF:2,\nhttp://169.254.169.254/latest/meta-data/\n",
    ),
    "a truncated JPEG": changed("JPEG", lambda data: data[: len(data) // 2]),
    "a truncated WAV": changed("no silence", lambda data: data[: len(data) // 2]),
}


@cache
def make(name: str) -> bytes:
    """The bytes of a sample."""
    sample = SAMPLES[name]
    if sample.of:
        return sample.mend(make(sample.of))
    with tempfile.TemporaryDirectory() as folder:
        arguments = [_file(argument, folder) if argument.startswith("{") else argument for argument in sample.arguments]
        target = Path(folder) / f"a film, “naïve” 日本{sample.extension}"
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-y",
            *arguments,
            str(target),
        ]
        subprocess.run(command, check=True, timeout=DEADLINE_S, capture_output=True)
        return target.read_bytes()


def _file(argument: str, folder: str) -> str:
    """Where the sample is that `{name}` names."""
    path = Path(folder) / "source"
    path.write_bytes(make(argument.strip("{}")))
    return str(path)
