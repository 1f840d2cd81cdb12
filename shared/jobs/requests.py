"""What may be asked for: one model a kind of generation, with its limits."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared.core.errors import Invalid
from shared.core.text import Text, storable
from shared.jobs import catalog
from shared.jobs.catalog import Kind, Model

LONGEST_PROMPT = 2000
MOST_METADATA = 20
LARGEST_SEED = 2**32 - 1


# The constraints come before the validator: behind one, the length would be that of the text with its blanks.
Prompt = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_PROMPT), AfterValidator(storable)
]
MetadataKey = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Text, StringConstraints(max_length=500)]


class Request(BaseModel):
    """What every request for a generation has. Unknown fields are refused: a typo must not cost credits."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: ClassVar[Kind]

    model: Annotated[
        str | None, Field(max_length=100, description="An id of GET /v1/models; default: the kind's first.")
    ] = None
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(max_length=MOST_METADATA, description="Yours, up to 20 pairs; returned with the job, never interpreted."),
    ] = {}

    def chosen_model(self) -> Model:
        """The model of the catalogue. Raises Invalid for one that does not serve this kind."""
        offered = catalog.of_kind(self.kind)
        if self.model is None:
            return offered[0]
        for model in offered:
            if model.id == self.model:
                return model
        names = ", ".join(model.id for model in offered)
        raise _invalid("model", f"unknown model for this kind; there are: {names}")

    def provider_fields(self) -> dict[str, Any]:
        """The fields that shape the result, without those that are about the job."""
        return self.model_dump(exclude={"model", "metadata"}, exclude_none=True)

    def units(self) -> int:
        """How many units of the model's price are asked for."""
        raise NotImplementedError

    def check(self, model: Model) -> None:
        """Raise Invalid for what this model cannot do."""


class StillRequest(Request):
    """One or more still images."""

    prompt: Annotated[Prompt, Field(description="What to show.", examples=["a lighthouse at dusk"])]
    count: Annotated[int, Field(ge=1, le=4, description="How many images.")] = 1
    aspect_ratio: Annotated[
        str | None, Field(pattern=r"^\d{1,2}:\d{1,2}$", description="Default: the model's first.", examples=["3:4"])
    ] = None
    seed: Annotated[int | None, Field(ge=0, le=LARGEST_SEED, description="The same seed gives the same image.")] = None

    def units(self) -> int:
        return self.count

    def provider_fields(self) -> dict[str, Any]:
        fields = super().provider_fields()
        return {**fields, "aspect_ratio": self.aspect_ratio or self.chosen_model().aspect_ratios[0]}

    def check(self, model: Model) -> None:
        if self.count > model.max_count:
            raise _invalid("count", f"{model.id} makes at most {model.max_count} at once")
        if self.aspect_ratio is not None and self.aspect_ratio not in model.aspect_ratios:
            raise _invalid("aspect_ratio", f"{model.id} offers {', '.join(model.aspect_ratios)}")
        if self.seed is not None and "seed" not in model.input:
            raise _invalid("seed", f"{model.id} takes no seed")


class ImageRequest(StillRequest):
    """An image of anything."""

    kind = "image"


class PortraitRequest(StillRequest):
    """A portrait: a person, upright."""

    kind = "portrait"


REQUESTS: dict[Kind, type[Request]] = {request.kind: request for request in (ImageRequest, PortraitRequest)}


def _invalid(field: str, detail: str) -> Invalid:
    return Invalid("The request is not valid.", errors=[{"pointer": f"/{field}", "detail": detail}])
