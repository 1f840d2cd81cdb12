"""The captions of a timeline as they are now: those of their file, moved along with what was done since, or its own."""

from shared.editor import cues
from shared.editor.timeline import CaptionCue, Captions
from shared.media import subtitles
from shared.media.captions import Cue, Transcript


def transcript(captions: Captions, file: bytes | None = None) -> Transcript:
    """`file` is the content of the captions' asset, where they are one. Raises subtitles.NotCaptions."""
    found = captions.cues or []
    if file is not None:
        read = subtitles.read(file).transcript.cues
        told = [CaptionCue(text=cue.text, start=cue.start, end=cue.end) for cue in read]
        found = cues.moved(told, captions.edits)
    # A blank line would end the cue in every format.
    shown = (Cue("\n".join(filter(str.strip, cue.text.split("\n"))), cue.start, cue.end) for cue in found)
    return Transcript(None, tuple(cue for cue in shown if cue.text))
