"""What cutting the silence out of a clip costs: held against the project as it is when it is asked for."""

from dataclasses import dataclass

from shared.editor import silence, templates, timeline
from shared.editor.silence import NoSource
from shared.editor.timeline import Document, Silence
from shared.jobs import callbacks
from shared.jobs.accept import Offer
from shared.jobs.requests import SilenceCuts, invalid, units
from shared.media import assets, library
from shared.media.assets import Asset
from shared.projects import table

HEARD = ("audio/", "video/")


class NothingToHear(Exception):
    """The clip's asset is gone, or has no sound."""


@dataclass(frozen=True)
class Source:
    """What a clip plays: of which asset, and how many seconds of it."""

    asset: Asset
    seconds: float


def offer(account: str, request: SilenceCuts) -> Offer:
    """The price. Raises NotFound for a project that is not the account's, Invalid for a clip that cannot be heard."""
    model = request.chosen_model()
    project = table.find(account, request.project)
    document = Document.model_validate(project.document)
    if request.callback_url is not None:
        callbacks.check(account, request.callback_url)
    try:
        found = source(account, document, request.clip)
    except (NoSource, NothingToHear) as error:
        raise invalid("clip", str(error)) from error
    except timeline.Unknown as error:
        raise invalid("clip", "how long it is depends on a variable that has no value") from error
    most = model.limits.max_input_s
    if most is not None and found.seconds > most:
        raise invalid("clip", f"plays {found.seconds:g} seconds of its source; at most {most} are listened to")
    kept = (document.timeline.silence or Silence()).model_dump()
    fields = {**kept, **request.fields(model)}
    wanted = units(model, fields, found.seconds)
    return Offer(model, fields, {}, wanted, model.price.of(wanted))


def source(account: str, document: Document, clip: str) -> Source:
    """What a clip plays. Raises NoSource, NothingToHear, timeline.Unknown."""
    heard = silence.heard(document.timeline, clip, templates.numbers(document.variables))
    asset = assets.find(heard.asset, account=account)
    if asset is None:
        raise NothingToHear("its asset is a variable" if "{{" in heard.asset else "its asset is not there any more")
    if not asset.content_type.startswith(HEARD) or not library.may_sound(asset.probe):
        raise NothingToHear("its asset has no sound")
    return Source(asset, float(heard.end - heard.begin))
