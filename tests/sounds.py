"""Sounds that are computed: tones, silence, chords, and a voice that a detector of speech takes for one."""

import array
import io
import math
import wave
from functools import cache

RATE = 16_000
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (530, 1840, 2480), (300, 870, 2240))


def wav(samples: list[float], channels: int = 1) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(array.array("h", (round(32767 * max(-1, min(1, value))) for value in samples)).tobytes())
    file.seek(0)
    return file


def tone(seconds: float, level: float = 0.3) -> list[float]:
    return [level * math.sin(at / 5) for at in range(round(seconds * RATE))]


def nothing(seconds: float) -> list[float]:
    return [0.0] * round(seconds * RATE)


def voice(seconds: float) -> list[float]:
    """Vowels, four a second: pulses of a throat through the resonances of a mouth."""
    said, phase, state = [], 0.0, [[0.0, 0.0] for _ in range(3)]
    for at in range(round(seconds * RATE)):
        now = at / RATE
        phase += (120 + 25 * math.sin(math.pi * now) + 6 * math.sin(6 * math.pi * now)) / RATE
        pulse, phase, value = float(phase >= 1), phase % 1, 0.0
        for last, formant, width, gain in zip(
            state, VOWELS[int(now * 4) % 5], (80, 100, 120), (1, 0.6, 0.3), strict=True
        ):
            damping = math.exp(-math.pi * width / RATE)
            turn = 2 * damping * math.cos(2 * math.pi * formant / RATE)
            last[:] = [pulse + turn * last[0] - damping * damping * last[1], last[0]]
            value += gain * last[0]
        said.append(0.08 * value * math.sin(math.pi * (now * 4 % 1)) ** 0.6)
    return said


def chords(seconds: float) -> list[float]:
    notes = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (261.6, 329.6, 392.0))
    return [
        0.03
        * math.exp(-(at / RATE % 1))
        * sum(math.sin(2 * math.pi * note * at / RATE) for note in notes[at // RATE % 3])
        for at in range(round(seconds * RATE))
    ]


@cache
def talk() -> tuple[float, ...]:
    """A voice from 2 to 4 s and from 7 to 9 s, with chords under all of eleven seconds."""
    said = nothing(2) + voice(2) + nothing(3) + voice(2) + nothing(2)
    return tuple(a + b for a, b in zip(said, chords(11), strict=True))
