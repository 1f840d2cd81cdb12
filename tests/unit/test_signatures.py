"""Standard Webhooks by the published vector, by the reference library, and with any byte of it wrong."""

import base64
import hmac
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from shared.providers import signatures
from shared.providers.signatures import BadSignature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": MESSAGE, "webhook-timestamp": str(TIME), "webhook-signature": SIGNATURE}


def test_the_published_vector() -> None:
    assert signatures.sign(SECRET, MESSAGE, TIME, BODY) == SIGNATURE
    signatures.verify(SECRET, HEADERS, BODY, TIME)


@given(key=st.binary(min_size=24, max_size=64), body=st.text(max_size=200), message=st.from_regex(r"msg_\w{1,30}\Z"))
def test_we_sign_as_the_reference_library_does(key: bytes, body: str, message: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()

    ours = signatures.sign(secret, message, TIME, body.encode())

    theirs = standardwebhooks.Webhook(secret).sign(message, datetime.fromtimestamp(TIME, UTC), body)
    assert ours == theirs


@given(position=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
def test_any_flipped_byte_of_the_body_is_refused(position: int, flip: int) -> None:
    changed = bytearray(BODY)
    changed[position] ^= flip

    with pytest.raises(BadSignature):
        signatures.verify(SECRET, HEADERS, bytes(changed), TIME)


@given(position=st.integers(0, 31), flip=st.integers(1, 255))
def test_any_flipped_byte_of_the_signature_is_refused(position: int, flip: int) -> None:
    digest = bytearray(base64.b64decode(SIGNATURE.removeprefix("v1,")))
    digest[position] ^= flip
    headers = {**HEADERS, "webhook-signature": "v1," + base64.b64encode(digest).decode()}

    with pytest.raises(BadSignature):
        signatures.verify(SECRET, headers, BODY, TIME)


@given(position=st.integers(0, 23), flip=st.integers(1, 255))
def test_any_flipped_byte_of_the_secret_is_refused(position: int, flip: int) -> None:
    key = bytearray(base64.b64decode(SECRET.removeprefix("whsec_")))
    key[position] ^= flip

    with pytest.raises(BadSignature):
        signatures.verify("whsec_" + base64.b64encode(key).decode(), HEADERS, BODY, TIME)


@pytest.mark.parametrize("changed", [{"webhook-id": MESSAGE + "x"}, {"webhook-timestamp": str(TIME + 1)}])
def test_the_id_and_the_timestamp_are_signed_as_well(changed: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        signatures.verify(SECRET, {**HEADERS, **changed}, BODY, TIME)


@pytest.mark.parametrize("offered", [f"v1,AAAA {SIGNATURE}", f"{SIGNATURE} v1,AAAA", f"v1a,AAAA  {SIGNATURE}"])
def test_any_of_several_signatures_will_do(offered: str) -> None:
    signatures.verify(SECRET, {**HEADERS, "webhook-signature": offered}, BODY, TIME)


@pytest.mark.parametrize("header", list(HEADERS))
def test_a_missing_header_is_refused(header: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != header}

    with pytest.raises(BadSignature):
        signatures.verify(SECRET, headers, BODY, TIME)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1614265330"},
        {"webhook-timestamp": "1614265330.0"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-id": ""},
        {"webhook-id": "\ud800"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": SIGNATURE.removeprefix("v1,")},
        {"webhook-signature": SIGNATURE.replace("v1,", "v2,")},
        {"webhook-signature": "ü" * 40},
        {"webhook-signature": "\ud800"},
    ],
)
def test_a_malformed_header_is_refused_like_a_wrong_one(changed: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        signatures.verify(SECRET, {**HEADERS, **changed}, BODY, TIME)


@given(message=st.text(), timestamp=st.text(), signature=st.text())
def test_no_header_makes_anything_but_a_refusal(message: str, timestamp: str, signature: str) -> None:
    headers = {"webhook-id": message, "webhook-timestamp": timestamp, "webhook-signature": signature}

    with pytest.raises(BadSignature):
        signatures.verify(SECRET, headers, BODY, TIME)


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_five_minutes_either_way_are_tolerated(age: int) -> None:
    signatures.verify(SECRET, HEADERS, BODY, TIME + age)


@pytest.mark.parametrize("age", [-301, 301, 86400])
def test_a_replay_from_longer_ago_or_from_the_future_is_refused(age: int) -> None:
    with pytest.raises(BadSignature):
        signatures.verify(SECRET, HEADERS, BODY, TIME + age)


@pytest.mark.parametrize("secret", ["whsec_not base64", "whsec_===", "whsec_ü"])
def test_a_secret_that_is_not_base64_verifies_nothing(secret: str) -> None:
    with pytest.raises(BadSignature):
        signatures.verify(secret, HEADERS, BODY, TIME)


@pytest.mark.parametrize("key", [b"", b"short"])
def test_a_secret_that_could_be_guessed_verifies_nothing(key: bytes) -> None:
    signed = hmac.digest(key, f"{MESSAGE}.{TIME}.".encode() + BODY, "sha256")
    headers = {**HEADERS, "webhook-signature": "v1," + base64.b64encode(signed).decode()}

    with pytest.raises(BadSignature):
        signatures.verify("whsec_" + base64.b64encode(key).decode(), headers, BODY, TIME)
