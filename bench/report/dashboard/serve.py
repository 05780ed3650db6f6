"""A page on 127.0.0.1 that is made anew when what it shows has changed."""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
SECONDS = 1.0  # between two looks at the records at least, and ten times as long as a look takes


class LivePage:
    """The page as it is now. Records are looked at only while a browser asks, and never by two at once."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._look()

    def _look(self) -> None:
        begun = time.monotonic()
        self._text = self._make()
        self._version = hashlib.sha256(self._text.encode()).hexdigest()
        ended = time.monotonic()
        self._due = ended + max(SECONDS, 10 * (ended - begun))

    def now(self) -> tuple[str, str]:
        """The page and its version. What cannot be made at the moment stays as it was."""
        with self._lock:
            if time.monotonic() >= self._due:
                try:
                    self._look()
                except (OSError, ValueError):  # records are being moved, or all are gone
                    self._due = time.monotonic() + SECONDS
            return self._text, self._version


def serve_dashboard(make: Callable[[], str], port: int | None, say: Callable[[str], None]) -> None:
    """Show the page that `make` gives until Ctrl-C. port: None takes one that is free. ValueError: it is taken."""
    server = bound(LivePage(make), port)
    say(f"open http://{HOST}:{server.server_port} in a browser; Ctrl-C ends it")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("ended")
    finally:
        server.server_close()


def bound(page: LivePage, port: int | None) -> ThreadingHTTPServer:
    """A server that answers this machine alone. ValueError: the port is taken, or is none."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A site whose name leads here must not read the page through its visitor's browser.
            if self.headers.get("Host", "").rpartition(":")[0] not in {HOST, "localhost"}:
                self._answer(403, "text/plain", f"ask for {HOST}\n")
            elif self.path == "/":
                text, version = page.now()
                named = f'<meta name="served" content="{version}"></head>'
                self._answer(200, "text/html", text.replace("</head>", named, 1))
            elif self.path == "/version":
                self._answer(200, "text/plain", page.now()[1])
            else:
                self._answer(404, "text/plain", "there is one page here: /\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            with suppress(ConnectionError):  # a browser that reloads hangs up
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002
            """A line for every look at the version would bury what matters."""

    try:
        return ThreadingHTTPServer((HOST, port or 0), Handler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} is taken or may not be used; choose another, or leave it out") from error
