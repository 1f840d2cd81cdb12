"""What may be asked for: one model a kind of generation, with its limits."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared.core.errors import Invalid
from shared.core.text import Text, storable
from shared.jobs import catalog
from shared.jobs.catalog import Kind, Model

LONGEST_PROMPT = 2000
LONGEST_TEXT = 40_000
MOST_METADATA = 20
LARGEST_SEED = 2**32 - 1
DEFAULT_DURATION_S = 30
ABOUT_THE_JOB = {"model", "metadata", "callback_url"}
"""Fields that do not shape the result."""

# The constraints come before the validator: behind one, the length would be that of the text with its blanks.
Prompt = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_PROMPT), AfterValidator(storable)
]
MetadataKey = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Text, StringConstraints(max_length=500)]
MediaRef = Annotated[
    Text,
    StringConstraints(pattern=r"^(as_[0-9a-z]{26}|https?://[^\s]+)$", max_length=2048),
    Field(description="One of your assets by its id, or an https URL.", examples=["as_5b4h4f960xmmrjfj2w13a6krwr"]),
]
CallbackUrl = Annotated[
    Text,
    StringConstraints(pattern=r"^https?://[!-~]+$", max_length=2048),
    Field(examples=["https://studio.example.com/atelier/callbacks"]),
]
Seconds = Annotated[int, Field(ge=1, le=4 * 3600)]


class Request(BaseModel):
    """What every request for a generation has. Unknown fields are refused: a typo must not cost credits."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: ClassVar[Kind]
    # Fields that are files, and what they may be; the first one's length is what is paid for where it is by the second.
    media: ClassVar[dict[str, tuple[str, ...]]] = {}

    model: Annotated[
        str | None, Field(max_length=100, description="An id of GET /v1/models; default: the kind's first.")
    ] = None
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(max_length=MOST_METADATA, description="Yours, up to 20 pairs; returned with the job, never interpreted."),
    ] = {}
    callback_url: Annotated[
        CallbackUrl | None,
        Field(description="An https URL that is told how the job ended, by a signed POST (Standard Webhooks)."),
    ] = None

    def chosen_model(self) -> Model:
        """The model of the catalogue. Raises Invalid for one that does not serve this kind, or is retired."""
        offered = catalog.of_kind(self.kind)
        if self.model is None:
            return offered[0]
        model = catalog.models().get(self.model)
        if model is not None and model.successor is not None:
            raise invalid("model", f"{model.id} is retired; use {model.successor}")
        if model is None or self.kind not in model.kinds:
            names = ", ".join(model.id for model in offered)
            raise invalid("model", f"unknown model for this kind; there are: {names}")
        return model

    def fields(self, model: Model) -> dict[str, Any]:
        """What shapes the result, with the model's defaults. Raises Invalid for what the model does not offer."""
        asked = self.model_dump(exclude=ABOUT_THE_JOB, exclude_none=True)
        limits = model.limits
        for name in sorted(self.model_fields_set - ABOUT_THE_JOB):
            if name in asked and not model.takes(name) and name not in self._ours(model):
                raise invalid(name, f"{model.id} takes no {name}")
        self._one_of("aspect_ratio", asked, limits.aspect_ratios, model)
        self._one_of("voice", asked, limits.voices, model)
        self._one_of("format", asked, limits.formats, model)
        self._duration(asked, model)
        if asked.get("count", 1) > limits.max_count:
            raise invalid("count", f"{model.id} makes at most {limits.max_count} at once")
        if limits.max_characters is not None and len(asked.get("text", "")) > limits.max_characters:
            raise invalid("text", f"{model.id} speaks at most {limits.max_characters} characters at once")
        return asked

    def _ours(self, model: Model) -> set[str]:
        """Fields that matter to us although the provider is not told of them."""
        ours = {"count", *self.media} if model.provider == "gemini" else {"count"}
        ours |= {"format"} if model.limits.formats else set()
        return ours | ({"duration_s"} if self.media or model.limits.durations_s else set())

    @staticmethod
    def _one_of(name: str, asked: dict[str, Any], offered: tuple[str, ...], model: Model) -> None:
        if not offered:
            return
        value = asked.setdefault(name, offered[0])
        if value not in offered:
            raise invalid(name, f"{model.id} offers {', '.join(offered)}")

    def _duration(self, asked: dict[str, Any], model: Model) -> None:
        limits = model.limits
        if limits.durations_s:
            if asked.setdefault("duration_s", limits.durations_s[0]) not in limits.durations_s:
                offered = ", ".join(str(seconds) for seconds in limits.durations_s)
                raise invalid("duration_s", f"{model.id} offers {offered} seconds")
        elif limits.max_duration_s is not None:
            seconds = asked.setdefault("duration_s", min(DEFAULT_DURATION_S, limits.max_duration_s))
            if not limits.min_duration_s <= seconds <= limits.max_duration_s:
                least, most = limits.min_duration_s, limits.max_duration_s
                raise invalid("duration_s", f"{model.id} makes {least} to {most} seconds")


def units(model: Model, fields: dict[str, Any], input_seconds: float | None) -> float:
    """How many units of the model's price a request asks for; `input_seconds` is how long its input is."""
    match model.price.per:
        case "image":
            return float(fields.get("count", 1))
        case "character":
            return float(len(fields["text"]))
        case "second":
            return float(math.ceil(input_seconds if input_seconds is not None else fields["duration_s"]))
        case "job":
            return 1.0


class StillRequest(Request):
    """One or more still images."""

    prompt: Annotated[Prompt, Field(description="What to show.", examples=["a lighthouse at dusk"])]
    count: Annotated[int, Field(ge=1, le=4, description="How many images.")] = 1
    aspect_ratio: Annotated[
        str | None, Field(max_length=20, description="One that the model offers; default: its first.", examples=["1:1"])
    ] = None
    seed: Annotated[int | None, Field(ge=0, le=LARGEST_SEED, description="The same seed gives the same image.")] = None


class ImageRequest(StillRequest):
    """An image of anything."""

    kind = "image"


class PortraitRequest(StillRequest):
    """A portrait: a person, upright."""

    kind = "portrait"


class VideoRequest(Request):
    """A video from a text, or from a text and the image it begins with."""

    kind = "video"
    media = {"image": ("image/",)}

    prompt: Annotated[Prompt, Field(description="What happens.", examples=["waves roll towards the lighthouse"])]
    image: MediaRef | None = None
    duration_s: Annotated[Seconds | None, Field(description="One that the model offers; default: its first.")] = None
    aspect_ratio: Annotated[str | None, Field(max_length=20)] = None
    seed: Annotated[int | None, Field(ge=0, le=LARGEST_SEED)] = None


class CharacterVideoRequest(Request):
    """A portrait brought to life: the person of `image` speaks `audio`."""

    kind = "character-video"
    media = {"audio": ("audio/", "video/"), "image": ("image/",)}

    image: MediaRef
    audio: MediaRef
    prompt: Annotated[Prompt | None, Field(description="How the person behaves.")] = None
    duration_s: Annotated[Seconds | None, Field(description="How long the audio is; needed for a URL.")] = None


class SpeechRequest(Request):
    """A text, spoken."""

    kind = "speech"

    text: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TEXT), AfterValidator(storable)
    ]
    voice: Annotated[str | None, Field(max_length=100, description="Default: the model's first.")] = None
    format: Annotated[str | None, Field(max_length=20, description="Default: the model's first.")] = None
    speed: Annotated[float | None, Field(ge=0.25, le=4, strict=False)] = None
    instructions: Annotated[Prompt | None, Field(description="How to speak.")] = None
    seed: Annotated[int | None, Field(ge=0, le=LARGEST_SEED)] = None


class MusicRequest(Request):
    """Music after a description."""

    kind = "music"

    prompt: Annotated[Prompt, Field(examples=["calm piano, slow, warm"])]
    duration_s: Seconds | None = None
    instrumental: bool = True


class TranscriptionRequest(Request):
    """What is said, as SRT, VTT and words with times."""

    kind = "transcription"
    media = {"audio": ("audio/", "video/")}

    audio: MediaRef
    language: Annotated[str | None, Field(pattern=r"^[a-z]{2}$", description="ISO 639-1; default: recognised.")] = None
    prompt: Annotated[Prompt | None, Field(description="Names and words that occur.")] = None
    duration_s: Annotated[Seconds | None, Field(description="How long the audio is; needed for a URL.")] = None


class StemsRequest(Request):
    """A recording taken apart: vocals and accompaniment."""

    kind = "stems"
    media = {"audio": ("audio/", "video/")}

    audio: MediaRef
    duration_s: Annotated[Seconds | None, Field(description="How long the audio is; needed for a URL.")] = None


class AnalysisRequest(Request):
    """The segments of a video, scored after `prompt`."""

    kind = "analysis"
    media = {"video": ("video/",)}

    video: MediaRef
    prompt: Annotated[
        Prompt, Field(description="What to look for.", examples=["moments that would make a good teaser"])
    ]
    duration_s: Annotated[Seconds | None, Field(description="How long the video is; needed for a URL.")] = None


ClipId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class SilenceCutsRequest(Request):
    """Where a clip of a project is quiet, or nobody speaks. What is not said is what the project's `silence` says."""

    kind = "silence-cuts"

    clip: Annotated[ClipId, Field(description="A clip of the project by its id.", examples=["c1"])]
    mode: Annotated[
        Literal["loudness", "speech"],
        Field(description="`loudness` keeps what is loud; `speech` keeps what is spoken, and lets music and noise go."),
    ] = "loudness"
    threshold_db: Annotated[
        float | None, Field(ge=-100, le=0, allow_inf_nan=False, description="Quieter than this is quiet.")
    ] = None
    min_duration: Annotated[
        float | None, Field(ge=0, le=3600, allow_inf_nan=False, description="A shorter pause stays, in seconds.")
    ] = None
    margin: Annotated[
        float | None,
        Field(ge=0, le=60, allow_inf_nan=False, description="Seconds that are kept beside what is heard."),
    ] = None
    apply: Annotated[
        bool, Field(description="Take it out of the project as well, of the version that is current by then.")
    ] = False


class SilenceCuts(SilenceCutsRequest):
    """The same with the project that its address names."""

    project: Text

    def fields(self, model: Model) -> dict[str, Any]:
        """What shapes the result; the model offers all of it."""
        return self.model_dump(exclude=ABOUT_THE_JOB, exclude_none=True)


REQUESTS: dict[Kind, type[Request]] = {
    request.kind: request
    for request in (
        ImageRequest,
        PortraitRequest,
        VideoRequest,
        CharacterVideoRequest,
        SpeechRequest,
        MusicRequest,
        TranscriptionRequest,
        StemsRequest,
        AnalysisRequest,
    )
}


OF_PROJECTS: dict[Kind, type[Request]] = {request.kind: request for request in (SilenceCutsRequest,)}
"""What is asked for at a project's own address; a batch takes none of it."""


def invalid(field: str, detail: str) -> Invalid:
    """The problem of one field."""
    return Invalid("The request is not valid.", errors=[{"pointer": f"/{field}", "detail": detail}])
