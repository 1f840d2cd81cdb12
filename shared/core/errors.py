"""What can go wrong for a caller of the HTTP API: one tree, answered in one place (`web.handler`) as RFC 9457 problems.

    Problem
    ├── BadRequest            400  malformed_json, bad_cursor
    ├── Unauthorized          401  unauthorized
    ├── InsufficientCredits   402  insufficient_credits      (needed, available)
    ├── Forbidden             403  forbidden
    ├── NotFound              404  not_found
    ├── Conflict              409  already_rotated, secret_not_repeatable, already_publishing,
    │                              asset_in_use (projects), storage_quota_exceeded (used, quota),
    │                              upload_incomplete (missing_parts), upload_received
    ├── PreconditionFailed    412  stale                     (version)
    ├── PayloadTooLarge       413  payload_too_large
    ├── UnsupportedMediaType  415  unsupported_media_type
    ├── Invalid               422  invalid_request, idempotency_key_reused   (errors[{pointer, detail}])
    ├── PreconditionRequired  428  if_match_required
    ├── TooManyJobs           429  too_many_jobs             (Retry-After)
    ├── RateLimited           429  rate_limited              (Retry-After, RateLimit)
    ├── InternalError         500  internal_error
    └── Unavailable           503  unconfigured, callbacks_unconfigured, keys_unavailable, access_unavailable,
                                   provider_budget_exhausted, unconfirmed, stock_unavailable, busy   (Retry-After)

`code` is stable and for programs, `detail` is for people. A 5xx says nothing of the inside: that is in the log, under
the same request id.
"""

from typing import Any, ClassVar


class Problem(Exception):
    """A refusal with an HTTP status; `fields` are added to the problem document, `headers` to the answer."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    code: str = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        fields: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.fields = fields or {}
        self.headers = headers or {}

    def document(self, request_id: str) -> dict[str, Any]:
        """The `application/problem+json` body."""
        return {
            "type": f"urn:atelier:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
            **self.fields,
        }


class BadRequest(Problem):
    status, title, code = 400, "Bad request", "bad_request"


class Unauthorized(Problem):
    """Every flaw of a token gives the same answer, and every flaw of a signature; the log says which it was."""

    status, title, code = 401, "Unauthorized", "unauthorized"

    def __init__(self, detail: str = "A valid bearer token is needed.", *, scheme: str = "Bearer") -> None:
        super().__init__(detail, headers={"www-authenticate": scheme})


class InsufficientCredits(Problem):
    status, title, code = 402, "Insufficient credits", "insufficient_credits"

    def __init__(self, *, needed: int, available: int) -> None:
        super().__init__(
            f"This needs {needed} credits and {available} are available.",
            fields={"needed": needed, "available": available},
        )


class Forbidden(Problem):
    status, title, code = 403, "Forbidden", "forbidden"


class NotFound(Problem):
    status, title, code = 404, "Not found", "not_found"


class Conflict(Problem):
    status, title, code = 409, "Conflict", "conflict"


class PreconditionFailed(Problem):
    """What a change was made for is not there any more; `version` is what there is."""

    status, title, code = 412, "Precondition failed", "stale"

    def __init__(self, *, version: int) -> None:
        super().__init__(
            f"This was made for another version; the current one is {version}.",
            fields={"version": version},
            headers={"etag": f'"{version}"'},
        )


class PreconditionRequired(Problem):
    status, title, code = 428, "Precondition required", "if_match_required"


class PayloadTooLarge(Problem):
    status, title, code = 413, "Payload too large", "payload_too_large"


class UnsupportedMediaType(Problem):
    status, title, code = 415, "Unsupported media type", "unsupported_media_type"


class Invalid(Problem):
    """`errors` point into the request: `{"pointer": "/prompt", "detail": "…"}` (RFC 6901)."""

    status, title, code = 422, "Invalid request", "invalid_request"

    def __init__(self, detail: str, *, errors: list[dict[str, str]], code: str | None = None) -> None:
        super().__init__(detail, code=code, fields={"errors": errors})
        self.errors = errors


class TooManyJobs(Problem):
    status, title, code = 429, "Too many jobs", "too_many_jobs"

    def __init__(self, *, kind: str, limit: int, retry_after: int) -> None:
        super().__init__(
            f"{limit} jobs of kind {kind} may be under way at once.",
            fields={"limit": limit},
            headers={"retry-after": str(retry_after)},
        )


class RateLimited(Problem):
    status, title, code = 429, "Too many requests", "rate_limited"

    def __init__(self, *, limit: str, retry_after: int) -> None:
        super().__init__(
            f"Too many requests of the class '{limit}'; the next one is welcome in {retry_after} s.",
            fields={"limit": limit},
            headers={"retry-after": str(retry_after)},
        )


class InternalError(Problem):
    status, title, code = 500, "Internal error", "internal_error"


class Unavailable(Problem):
    status, title, code = 503, "Service unavailable", "unavailable"

    def __init__(self, detail: str, *, code: str, retry_after: int = 30) -> None:
        super().__init__(detail, code=code, headers={"retry-after": str(retry_after)})
