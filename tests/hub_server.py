"""A model and data hub on this machine: as much of the hub's protocol as the clients use to read repositories."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+)"
                 r"(?:/(?P<path>.+))?)?")  # fmt: skip
FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass(frozen=True)
class Repository:
    """A repository with one commit, which is also its main branch. gated: nobody may read its files."""

    commit: str
    files: dict[str, bytes]
    gated: bool = False

    def under(self, folder: str) -> list[dict[str, object]]:
        """The files below a folder, as the hub lists them."""
        prefix = f"{folder}/" if folder else ""
        return [
            {"type": "file", "path": path, "size": len(content), "oid": _etag(content)}
            for path, content in self.files.items()
            if path.startswith(prefix)
        ]


@dataclass
class Hub:
    """Where the server listens, what it offers as {("models", "acme/tiny"): ...}, and what it was asked."""

    endpoint: str
    repositories: dict[tuple[str, str], Repository]
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(repositories: dict[tuple[str, str], Repository]) -> Iterator[Hub]:
    """Serve repositories on a free port of 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:  # noqa: N802 - the base class calls it so
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        address = unquote(urlsplit(self.path).path)
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        hub.asked.append(f"{self.command} {address}")
        match = API.fullmatch(address) or FILE.fullmatch(address)
        asked = match.groupdict() if match else {}
        repository = hub.repositories.get((asked.get("kind") or "models", asked.get("repo", "")))
        if repository is None:
            # What a visitor without a token is told about a repository that is absent or private.
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif asked["revision"] not in {None, "main", repository.commit}:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {asked['revision']}")
        elif address.startswith("/api/"):
            self._answer_api(asked, repository)
        elif repository.gated:
            self._refuse(403, "GatedRepo", f"Access to {asked['repo']} is restricted. Visit its page to ask for access.")
        elif asked["path"] not in repository.files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repository.commit})
        else:
            content = repository.files[asked["path"]]
            self._answer(200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": repository.commit})

    def _answer_api(self, asked: dict[str, str], repository: Repository) -> None:
        if asked["what"] == "tree":
            found: object = repository.under(asked["path"] or "")
        else:
            siblings = [{"rfilename": path} for path in repository.files]
            gated = "manual" if repository.gated else False
            found = {"id": asked["repo"], "sha": repository.commit, "private": False, "gated": gated, "siblings": siblings}
        self._answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the tests look at what was asked."""
