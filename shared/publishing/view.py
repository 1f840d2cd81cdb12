"""Publications and channels as the API shows them."""

from pydantic import BaseModel, ConfigDict

from shared.core.clock import iso
from shared.publishing.postiz import Channel
from shared.publishing.status import ChannelState, Mode, Status
from shared.publishing.table import Publication


class ChannelView(BaseModel):
    """A connected account of a social network; one that is `disabled` must be connected again in Postiz."""

    model_config = ConfigDict(title="Channel")

    id: str
    name: str
    platform: str
    picture_url: str | None
    disabled: bool

    @classmethod
    def of(cls, channel: Channel) -> "ChannelView":
        return cls(
            id=channel.id,
            name=channel.name,
            platform=channel.platform,
            picture_url=channel.picture,
            disabled=channel.disabled,
        )


class ChannelList(BaseModel):
    items: list[ChannelView]


class PublishedChannel(BaseModel):
    """What has become of one channel's post; `url` is where everybody can see it."""

    id: str
    name: str
    platform: str
    state: ChannelState
    url: str | None
    error: str | None


class PublicationError(BaseModel):
    code: str
    detail: str


class PublicationView(BaseModel):
    """A publication of one asset in one or more channels."""

    model_config = ConfigDict(title="Publication")

    id: str
    asset_id: str
    mode: Mode
    status: Status
    text: str
    publish_at: str
    channels: list[PublishedChannel]
    error: PublicationError | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, publication: Publication) -> "PublicationView":
        return cls(
            id=publication.id,
            asset_id=publication.asset_id,
            mode=publication.mode,
            status=publication.status,
            text=publication.content,
            publish_at=iso(publication.publish_at),
            channels=[
                PublishedChannel(
                    id=channel.id,
                    name=channel.name,
                    platform=channel.platform,
                    state=channel.state,
                    url=channel.url,
                    error=channel.error,
                )
                for channel in publication.channels
            ],
            error=PublicationError(**vars(publication.error)) if publication.error else None,
            created_at=publication.created_at,
            updated_at=publication.updated_at,
        )


class PublicationPage(BaseModel):
    items: list[PublicationView]
    next_cursor: str | None
