"""Serve a page on 127.0.0.1 that is rendered again when its records change."""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
SECONDS = 1.0  # minimum time between two renderings; a slow page waits ten times its rendering time


class LivePage:
    """A page that is kept up to date.

    It is rendered only when a browser requests it, and by one thread at a time.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        """Render the page for the first time.

        Args:
            make: Renders the page and returns its HTML.
        """
        self._make = make
        self._lock = threading.Lock()
        self._render()

    def _render(self) -> None:
        began = time.monotonic()
        self._text = self._make()
        self._version = hashlib.sha256(self._text.encode()).hexdigest()
        ended = time.monotonic()
        self._due = ended + max(SECONDS, 10 * (ended - began))

    def now(self) -> tuple[str, str]:
        """Return the page and its version, a hash of its text.

        If the page cannot be rendered at the moment, the last version is returned.
        """
        with self._lock:
            if time.monotonic() >= self._due:
                try:
                    self._render()
                except (OSError, ValueError):  # records are being moved, or all are gone
                    self._due = time.monotonic() + SECONDS
            return self._text, self._version


def serve_dashboard(make: Callable[[], str], port: int | None, say: Callable[[str], None]) -> None:
    """Serve a page until Ctrl-C.

    Args:
        make: Renders the page and returns its HTML.
        port: The port; None chooses a free one.
        say: Shows a line to the user.

    Raises:
        ValueError: The port is taken or invalid.
    """
    server = bound(LivePage(make), port)
    say(f"open http://{HOST}:{server.server_port} in a browser; Ctrl-C ends it")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("ended")
    finally:
        server.server_close()


def bound(page: LivePage, port: int | None) -> ThreadingHTTPServer:
    """Create a server that can be reached only from this machine.

    Args:
        page: The page to serve at /. Its version is at /version.
        port: The port; None chooses a free one.

    Returns:
        The server, which is not yet serving.

    Raises:
        ValueError: The port is taken or invalid.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Refuse other host names: a website whose name resolves to this machine (DNS rebinding) must not read the
            # page through its visitor's browser.
            if self.headers.get("Host", "").rpartition(":")[0] not in {HOST, "localhost"}:
                self._answer(403, "text/plain", f"ask for {HOST}\n")
            elif self.path == "/":
                text, version = page.now()
                head_end = f'<meta name="served" content="{version}"></head>'
                self._answer(200, "text/html", text.replace("</head>", head_end, 1))
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
            with suppress(ConnectionError):  # a browser that reloads closes the connection
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002
            """Log nothing: the browser polls the version, and a line for each request would bury the other output."""

    try:
        return ThreadingHTTPServer((HOST, port or 0), Handler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} is taken or not allowed; choose another, or leave it out") from error
