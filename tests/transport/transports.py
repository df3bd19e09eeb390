"""What tests of both transports share."""

from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Http, Response
from postroom.transport.requests_http import RequestsHttp

ENDLESS = b"x" * 10_000
Transport = type[CurlHttp] | type[RequestsHttp]


def post(http: Http, url: str, *, body: bytes = b"mail", deadline_s: float = 10, **more: object) -> Response:
    return http.exchange("POST", url, headers={}, body=body, deadline_s=deadline_s, **more)  # type: ignore[arg-type]
