"""Projects and files of other programs: what comes in as a document, what goes out as a file."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from shared.core import aws
from shared.core.errors import Invalid, NotFound
from shared.core.settings import settings
from shared.editor.check import Flawed
from shared.editor.interchange import captions
from shared.editor.interchange.imported import Imported, NotImportable
from shared.editor.timeline import Document
from shared.media import assets
from shared.media import captions as formats
from shared.media.subtitles import NotCaptions
from shared.projects import edit
from shared.projects.table import Project

type Format = Literal["otio", "shotstack"]
type CaptionFormat = Literal["srt", "vtt"]


def read(told: Format, content: Mapping[str, Any], media: Mapping[str, str], account: str) -> Imported:
    """The document that a file of another program makes. Raises Invalid."""
    try:
        if told == "otio":
            from shared.editor.interchange import otio_import

            return otio_import.read(json.dumps(content).encode(), media)
        from shared.editor.interchange import shotstack

        known = edit.facts(set(media.values()), account)
        lengths = {asset: one.duration_s for asset, one in known.items() if one.duration_s}
        return shotstack.read(content, media, lengths)
    except NotImportable as error:
        raise Invalid("The file is not one that we can read.", errors=[_flaw(str(error))]) from error
    except Flawed as error:
        flaws = [_flaw(f"what it makes has a flaw at {flaw.pointer}: {flaw.detail}") for flaw in error.flaws]
        raise Invalid("The file makes no project.", errors=flaws) from error


def otio(project: Project) -> str:
    """The project as an `.otio` file. Raises Invalid where a length depends on a variable without a value."""
    from shared.editor.interchange.otio import NotPlaceable, write

    document = Document.model_validate(project.document)
    names = {}
    for asset_id in project.summary.assets:
        asset = assets.find(asset_id, account=project.summary.account)
        if asset is not None and asset.name:
            names[asset_id] = asset.name
    try:
        return write(document, names).text
    except NotPlaceable as error:
        raise Invalid("The project cannot be written down.", errors=[{"pointer": "", "detail": str(error)}]) from error


def captions_of(project: Project, told: CaptionFormat) -> str:
    """The captions of a project, as they are shown now. Raises NotFound."""
    found = Document.model_validate(project.document).timeline.captions
    if found is None:
        raise NotFound("The project has no captions.")
    file = None
    if found.asset is not None:
        asset = assets.find(found.asset, account=project.summary.account)
        if asset is None:
            raise NotFound("The captions of the project are no asset of yours.")
        file = aws.s3().get_object(Bucket=settings().media_bucket, Key=asset.key)["Body"].read()
    try:
        said = captions.transcript(found, file)
    except NotCaptions as error:
        raise NotFound("The captions of the project cannot be read.") from error
    return formats.srt(said) if told == "srt" else formats.vtt(said)


def _flaw(detail: str) -> dict[str, str]:
    return {"pointer": "/content", "detail": detail}
