"""What was said, for somebody who cannot hear: words spread evenly over the true length of a recording."""

from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

SENTENCES = (
    "The lighthouse keeper climbed the stairs one last time.",
    "Below him the sea was quiet and the boats had come home.",
    "He lit the lamp and wrote the hour into his book.",
    "Nobody would read it, but that had never been the reason.",
    "Far out a ship answered with three long notes.",
    "In the morning there was only the wind and the gulls.",
)
WORDS_PER_SECOND = 2.5
# Of a word's time this much is sound; the rest is the pause after it.
SPOKEN_SHARE = 0.9
LONGEST_SEGMENT = 12
SENTENCE_ENDS = (".", "!", "?")


@dataclass(frozen=True, slots=True)
class Word:
    """Times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Transcript:
    segments: tuple[tuple[Word, ...], ...]
    language: str = "en"

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def words(self) -> list[Word]:
        return list(chain.from_iterable(self.segments))

    def whisper(self) -> dict[str, Any]:
        """As whisper models answer."""
        segments = [
            {
                "id": number,
                "text": " ".join(word.text for word in words),
                "start": words[0].start,
                "end": words[-1].end,
                "words": [{"word": word.text, "start": word.start, "end": word.end} for word in words],
            }
            for number, words in enumerate(self.segments)
        ]
        return {"text": self.text, "segments": segments, "detected_language": self.language}

    def chunks(self) -> dict[str, Any]:
        """As fal's whisper answers."""
        chunks = [
            {"timestamp": [words[0].start, words[-1].end], "text": " ".join(word.text for word in words)}
            for words in self.segments
        ]
        return {"text": self.text, "chunks": chunks, "inferred_languages": [self.language]}


def transcribe(seconds: float, say: str | None = None) -> Transcript:
    """`say`, or as many words of the fixed sentences as fit, from 0 to `seconds`."""
    fixed = chain.from_iterable(sentence.split() for sentence in cycle(SENTENCES))
    texts = say.split() if say else list(islice(fixed, max(1, int(seconds * WORDS_PER_SECOND))))
    slot = seconds / len(texts)
    segments: list[list[Word]] = [[]]
    for number, text in enumerate(texts):
        if segments[-1] and (segments[-1][-1].text.endswith(SENTENCE_ENDS) or len(segments[-1]) == LONGEST_SEGMENT):
            segments.append([])
        start = number * slot
        segments[-1].append(Word(text, round(start, 3), round(start + slot * SPOKEN_SHARE, 3)))
    return Transcript(tuple(map(tuple, segments)))
