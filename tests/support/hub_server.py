"""A local hub on 127.0.0.1 with the part of the hub's protocol that its clients use to read repositories."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

ABOUT = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
    r"(?:/(?P<what>revision|tree)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)
FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass(frozen=True)
class Repository:
    """A repository with one commit and one branch. Nobody may read the files of a gated repository."""

    files: dict[str, bytes]
    commit: str
    branch: str = "main"
    gated: bool = False


class Hub(ThreadingHTTPServer):
    """Serves {"models/acme/tiny-bert": ...} on a free port and logs requests in `asked`: ["HEAD /acme/tiny-bert/..."].

    `with Hub(...) as hub:` starts and closes it. A closed hub refuses connections, as if the network were gone.
    """

    def __init__(self, repositories: dict[str, Repository]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories = repositories
        self.asked: list[str] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {address}")
        match = ABOUT.fullmatch(address) or FILE.fullmatch(address)
        parts = match.groupdict() if match else {"kind": None, "name": None}
        repository = self.server.repositories.get(f"{parts['kind'] or 'models'}/{parts['name']}")
        if repository is None:
            # The hub does not reveal to a stranger whether a repository is absent or private.
            self.refuse(401, "RepoNotFound", "Invalid username or password.")
        elif parts["revision"] not in {None, repository.branch, repository.commit}:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {parts['revision']}")
        elif match.re is FILE:
            self.send_file(repository, parts["path"])
        elif parts["what"] == "tree":
            self.send_tree(repository, f"{parts['path']}/" if parts["path"] else "")
        else:
            siblings = [{"rfilename": path} for path in repository.files]
            self.send_json({"id": parts["name"], "sha": repository.commit, "siblings": siblings})

    def send_file(self, repository: Repository, path: str) -> None:
        commit = {"X-Repo-Commit": repository.commit}
        if repository.gated:
            self.refuse(403, "GatedRepo", "Access is restricted and you are not in the authorized list.")
        elif path not in repository.files:
            self.refuse(404, "EntryNotFound", "Entry not found", commit)
        else:
            self.send(200, repository.files[path], {"ETag": f'"{etag(repository.files[path])}"', **commit})

    def send_tree(self, repository: Repository, folder: str) -> None:
        files = {path: content for path, content in repository.files.items() if path.startswith(folder)}
        if files:
            sizes = {path: {"size": len(content), "oid": etag(content)} for path, content in files.items()}
            self.send_json([{"type": "file", "path": path, **size} for path, size in sizes.items()])
        else:
            self.refuse(404, "EntryNotFound", f"{folder} does not exist")

    def send_json(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay silent; `Hub.asked` logs the requests."""


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
