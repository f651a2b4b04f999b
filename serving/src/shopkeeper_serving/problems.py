"""What a client did wrong, as RFC 9457 problem details that name the field."""

import re

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "malformed request",
    401: "not authorised",
    404: "not found",
    405: "method not allowed",
    408: "request too slow",
    413: "request too large",
    422: "invalid request",
    500: "internal error",
    503: "too busy",
}

WHERE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
MEMBER = re.compile(r"(?:missing required|unknown) field `(?P<name>[^`]+)`")


class Problem(Exception):
    """A request that cannot be answered; becomes the response of `to_response`."""

    def __init__(
        self, status: int, detail: str, *, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field, self.headers = status, detail, field, headers

    @classmethod
    def of(cls, error: msgspec.DecodeError | UnicodeDecodeError) -> "Problem":
        """400 where the body is no JSON, 422 with the field's path where it is not what was expected."""
        if not isinstance(error, msgspec.ValidationError):
            return cls(400, str(error))
        return cls(422, str(error), field=field_of(str(error)))

    def to_response(self) -> Response:
        body = {"type": "about:blank", "title": TITLES[self.status], "status": self.status, "detail": self.detail}
        if self.field:
            body["field"] = self.field
        return Response(msgspec.json.encode(body), self.status, self.headers, MEDIA_TYPE)


def field_of(message: str) -> str | None:
    """`... - at `$.events[0].k`` -> `events[0].k`; a missing or unknown member is appended to its object's path."""
    where, member = WHERE.search(message), MEMBER.search(message)
    parts = [where["path"] if where else "", member["name"] if member else ""]
    return ".".join(part for part in parts if part) or None
