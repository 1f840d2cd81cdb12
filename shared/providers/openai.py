"""OpenAI: speech and images, answered at once. Wire format: openai/openai-openapi and openai/openai-python.

A model is named `speech:…` or `images:…`. An image comes as base64 in the middle of a JSON document, several of them as
tens of megabytes: they are decoded as they arrive, and only what is between them is kept. Where there is a `url`
instead (DALL·E may answer so; it is good for an hour), the image is named and not fetched.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx

from shared.core.settings import settings
from shared.providers import http, reading
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    File,
    Generation,
    InvalidInput,
    KeyRefused,
    ModelGone,
    OperatorNeeded,
    Output,
    ProviderError,
    Submission,
    Throttled,
)

PATHS = {"speech": "/audio/speech", "images": "/images/generations"}
OUT_OF_FUNDS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
REFUSED = frozenset({"moderation_blocked", "content_policy_violation"})


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process."""
    headers = {"authorization": f"Bearer {key}"}
    return http.connect(settings().base_urls["openai"], headers, timeout=settings().generate_timeout)


@contextmanager
def generate(connection: Connection, submission: Submission) -> Iterator[Generation]:
    """Ask once and read the files as they come. Raises Permanent, NothingCreated or Ambiguous, the last also from the
    files."""
    kind, _, model = submission.model.partition(":")
    if kind not in PATHS:
        raise ModelGone(f"{submission.model} is of no known kind")
    with http.stream(connection, PATHS[kind], {**submission.input, "model": model}) as response:
        http.check_created(response, _refusal)
        request_id = response.headers.get("x-request-id", "")
        chunks = http.chunks(response)
        yield Generation(
            iter([File(chunks, length=http.length(response))]) if kind == "speech" else images(chunks),
            request_id=request_id if reading.IDENTIFIER.fullmatch(request_id) else None,
        )


def images(chunks: Iterator[bytes]) -> Iterator[File | Output]:
    """The images of a JSON answer, each to be read before the next, and then those that it only names. Raises Ambiguous
    for one that is cut short."""
    document = _Document(chunks)
    while document.find_image():
        image = document.image()
        yield File(image)
        for _ in image:
            pass  # What its reader has left of it.
    listed = document.rest().get("data")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("b64_json") is None and reading.is_url(entry.get("url")):
            yield Output(entry["url"])


LARGEST_PIECE = 65_536
LARGEST_REST = 262_144
WHITESPACE = b" \t\r\n"
# In JSON a quotation mark within a string is escaped, so nothing but the key itself looks like this.
IMAGE_FOLLOWS = (b'{"b64_json":', b',"b64_json":')
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[^"]++', re.DOTALL)


class _Document:
    """A JSON document as it arrives. It is read in turns: on to the next image, then the image.

    `_held` has arrived and is not read; `_rest` is what has been read, without the images and the whitespace, and must
    be JSON in the end.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._pieces = _pieces(chunks)
        self._held = b""
        self._rest = bytearray()

    def find_image(self) -> bool:
        """Read on to the first character of the next image; False at the end of the document."""
        while True:
            if self._held[:1] == b'"' and self._rest.endswith(IMAGE_FOLLOWS):
                self._rest += b'""'
                self._held = self._held[1:]
                return True
            if token := TOKEN.match(self._held):
                text = token.group()
                self._rest += text if text[:1] == b'"' else text.translate(None, WHITESPACE)
                self._held = self._held[token.end() :]
            elif not self._receive():
                return False
            if len(self._rest) + len(self._held) > LARGEST_REST + LARGEST_PIECE:
                raise Ambiguous("the provider's answer is no list of images")

    def image(self) -> Iterator[bytes]:
        """The image that `find_image` has found, decoded; nothing of it is kept."""
        decoder = _Base64()
        while True:
            text, end, self._held = self._held.partition(b'"')
            yield from decoder.decode(text)
            if end:
                decoder.finish()
                return
            if not self._receive():
                raise Ambiguous("the provider's answer broke off within an image")

    def _receive(self) -> bool:
        """Whether more has arrived."""
        piece = next(self._pieces, b"")
        self._held += piece
        return piece != b""

    def rest(self) -> dict[str, Any]:
        """The document without the images, once there is no other. Raises Ambiguous for what is none, or not all."""
        document = None if self._held else reading.loads(self._rest.decode(errors="replace"))
        if not isinstance(document, dict):
            raise Ambiguous("the provider's answer is not the JSON of an answer with images, or not all of it")
        return document


class _Base64:
    """Decodes a JSON string of base64 in pieces of any length; the same whatever the pieces. Raises Ambiguous."""

    def __init__(self) -> None:
        self._left = b""
        self._ended = False

    def decode(self, text: bytes) -> Iterator[bytes]:
        text = (self._left + text).replace(b"\\/", b"/")
        # A backslash may be half of an escaped slash.
        whole = len(text.removesuffix(b"\\")) // 4 * 4
        self._left = text[whole:]
        if not whole:
            return
        if self._ended:
            raise Ambiguous("the provider's answer has base64 after its end")
        try:
            yield base64.b64decode(text[:whole], validate=True)
        except binascii.Error as error:
            raise Ambiguous("the provider's answer has an image that is no base64") from error
        self._ended = text[whole - 1 : whole] == b"="

    def finish(self) -> None:
        if self._left:
            raise Ambiguous("the provider's answer has an image that is no base64")


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), LARGEST_PIECE):
            yield chunk[start : start + LARGEST_PIECE]


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: `{"error": {"message", "type", "param", "code"}}`."""
    error = (http.document(response) or {}).get("error")
    error = error if isinstance(error, dict) else {"message": error}
    detail = http.detail(error.get("message"), f"status {response.status_code}")
    names = {str(error.get("code")), str(error.get("type"))}
    if names & OUT_OF_FUNDS:
        return KeyRefused("our account at the provider has no funds")
    if names & REFUSED:
        return ContentRefused(detail)
    match response.status_code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 404:
            return OperatorNeeded("the provider does not know the model")
        case 409 | 429:  # A conflict is a lock that was not had in time, which OpenAI's own clients retry.
            return Throttled(detail, retry_after=http.retry_after(response))
    return InvalidInput(detail)
