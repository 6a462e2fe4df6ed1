"""
Asking a running gateway's admin API, for the command line.

Blocking and bounded: one request, one answer, a time limit and a size limit. What goes wrong is said in
the operator's words.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from silence_gateway.errors import GatewayError

MAX_ANSWER_BYTES = 64 * 1024 * 1024


class AdminUnreachable(GatewayError):
    """The admin API gave no usable answer; the text says why and what to try."""


class AdminRefused(AdminUnreachable):
    """
    The admin API answered, and said no.

    Attributes:
        status: HTTP status.
        reason: What it said.
    """

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url} answers {status}: {reason}")
        self.status = status
        self.reason = reason


class WrongInput(GatewayError):
    """What the user gave names nothing that there is; the text says what would."""


class WrongAdminUrl(WrongInput):
    """What was given as the admin API's address is none."""


@dataclass(frozen=True, slots=True)
class AdminClient:
    """
    One gateway's admin API.

    Attributes:
        url: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
        token: Bearer token, or empty; never shown.
        timeout_s: Longest time for connecting, and for each wait after it.
    """

    url: str
    token: str
    timeout_s: float

    def __repr__(self) -> str:
        return f"AdminClient({self.url!r})"

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """
        Return status and body of one request.

        Raises:
            WrongAdminUrl: The URL cannot be used.
            AdminUnreachable: Nothing answered, or not HTTP.
        """
        connection = self._connection()
        headers = {"Accept": "application/json", "Connection": "close"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES + 1)
        except ConnectionRefusedError as exc:
            raise AdminUnreachable(
                f"nothing listens at {self.url}: is the gateway running, and is this its admin.listen? "
                "(--admin or SILENCE_ADMIN names another)"
            ) from exc
        except TimeoutError as exc:
            raise AdminUnreachable(f"{self.url} did not answer within {self.timeout_s:g} s") from exc
        except http.client.HTTPException as exc:
            raise AdminUnreachable(f"{self.url} does not answer in HTTP: is it the admin listener?") from exc
        except ValueError as exc:
            raise WrongAdminUrl(
                "the token or the path holds characters that no HTTP request can carry"
            ) from exc
        except OSError as exc:
            raise AdminUnreachable(f"{self.url} cannot be reached: {exc.strerror or exc}") from exc
        finally:
            connection.close()
        if len(body) > MAX_ANSWER_BYTES:
            raise AdminUnreachable(f"{self.url} answers more than {MAX_ANSWER_BYTES >> 20} MiB")
        return response.status, body

    def ask_json(self, method: str, path: str) -> Any:
        """
        Return the JSON of a successful answer.

        Raises:
            WrongAdminUrl: As for `ask`.
            AdminUnreachable: As for `ask`, or the token is wrong.
            AdminRefused: The gateway refused; the reason is its own.
        """
        status, body = self.ask(method, path)
        if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST:
            # Something in front of it; nothing was done, and an empty answer must not be taken for a yes.
            raise AdminUnreachable(
                f"{self.url} answers {status} and leads elsewhere: name the admin listener"
            )
        if status == http.client.UNAUTHORIZED:
            wrong = "does not take this token" if self.token else "wants the admin token"
            raise AdminUnreachable(f"{self.url} {wrong}: give --token or SILENCE_ADMIN_TOKEN")
        try:
            answer = json.loads(body)
        except ValueError as exc:
            raise AdminUnreachable(f"{self.url} does not answer in JSON: is it the admin listener?") from exc
        if status >= http.client.BAD_REQUEST:
            said = answer.get("error") if isinstance(answer, dict) else None
            if said is None and isinstance(answer, dict) and "type" in answer:
                # A problem document: this is where a gateway serves requests, and not where it is asked.
                raise AdminUnreachable(
                    f"{self.url} answers like a gateway's main listener: name the admin one"
                )
            raise AdminRefused(self.url, status, str(said or "no reason given"))
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if self.url.startswith("unix:"):
            return UnixConnection(self.url.removeprefix("unix:"), self.timeout_s)
        try:
            parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme not in {"http", "https"} or not host or parts.path.strip("/"):
            raise WrongAdminUrl(
                f"{self.url!r} is not an admin URL: "
                "write http://127.0.0.1:9900, https://HOST:PORT or unix:PATH"
            )
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=self.timeout_s, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=self.timeout_s)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
