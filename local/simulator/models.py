"""Which model makes what: one table of names and input fields."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from local.simulator.directives import Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """Holds for a model whose name has `name` in it and whose input has one field of each of `fields`."""

    kind: Kind
    name: str
    fields: tuple[frozenset[str], ...] = ()


IMAGE_FIELDS = frozenset(
    {"image", "image_url", "image_urls", "input_image", "source_image", "face_image", "first_frame_url"}
)
SOUND_FIELDS = frozenset({"audio", "audio_url", "audio_file", "input_audio", "driven_audio", "file"})
LENGTH_FIELDS = frozenset({"duration", "seconds", "num_frames", "n_frames", "fps"})

# The first that holds decides. Names come first, those that are part of other names before them; the last ones look at
# the input alone, for models that are only a version or a deployment.
RULES = (
    Rule("image", r"photon|imagen|image-01|seedream|nano-banana|flux|ideogram|recraft|sdxl|stable-diffusion|dall-e"),
    Rule("transcription", r"whisper|transcri|speech-to-text|wizper|scribe|\basr\b"),
    Rule("stems", r"demucs|spleeter|\bstems?\b|vocal|separat|\bmdx|\buvr|isolat"),
    Rule(
        "character-video",
        r"avatar|talk|lip-?sync|wav2lip|omni-?human|fabric|s2v|hedra|heygen|character-|live-?portrait|dreamactor|act-two",
    ),
    Rule("music", r"music|riffusion|lyria|stable-audio|ace-step|song|suno|jukebox|magnet"),
    Rule("speech", r"\btts|tts\b|text-to-(speech|dialogue)|speech|\bbark|xtts|kokoro|voice|chatterbox|parler"),
    Rule(
        "video",
        r"video|kling|seedance|veo|\bwan\b|wan-?\d|hailuo|runway|gen-?[34]|luma|\bray|ltx|mochi|\bsvd|sora|pixverse|vidu"
        r"|i2v|t2v|animate",
    ),
    Rule("character-video", "", (IMAGE_FIELDS, SOUND_FIELDS)),
    Rule("stems", "", (frozenset({"stem", "stems", "two_stems"}),)),
    Rule("transcription", "", (SOUND_FIELDS,)),
    Rule("speech", "", (frozenset({"text"}),)),
    Rule("video", "", (LENGTH_FIELDS,)),
    Rule("image", ""),
)


def kind_of(model: str, fields: Collection[str]) -> Kind:
    return next(
        rule.kind
        for rule in RULES
        if re.search(rule.name, model.lower()) and all(not needed.isdisjoint(fields) for needed in rule.fields)
    )
