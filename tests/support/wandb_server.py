"""A W&B server with what its client needs to upload a run, and servers that do not answer."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SOMEONE = {"id": "u", "entity": "someone", "username": "someone", "email": "", "flags": "{}", "teams": {"edges": []}}


class Server(ThreadingHTTPServer):
    """Stores what arrives.

    runs: the last values of every run, by its id. asked: names of the requested GraphQL operations. artifacts: by name,
    with digest, type, files (their contents by path) and whether it is committed. views: the saved workspaces.
    uploaded: contents by path. stalled: while it is set, requests whose operation or path contains it are never
    answered. refused: operations that are answered with an error.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.uploaded: dict[str, bytes] = {}
        self.refused: set[str] = set()
        self.stalled = ""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: the client drops its connections when it ends."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None: ...

    def do_PUT(self) -> None:
        self.server.uploaded[self.path.removeprefix("/upload/")] = self._body()
        self._answer(self.path, {})

    def do_POST(self) -> None:
        if self.path == "/graphql":
            request = json.loads(self._body())
            name = re.split(r"\s*[({]", request["query"].strip(), maxsplit=1)[0].rsplit(maxsplit=1)[-1]
            self.server.asked.append(name)
            if name in self.server.refused:
                self._answer(request["query"], {"errors": [{"message": f"no {name} here"}], "data": None})
            else:
                self._answer(request["query"], {"data": self._resolve(name, request.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            if not (self.server.stalled and self.server.stalled in self.path):
                self._take(self.server.runs[self.path.split("/")[-2]], json.loads(self._body()))
            self._answer(self.path, {"exitcode": None, "limits": {}})
        else:
            self._answer(self.path, {})

    def _resolve(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name == "UpsertBucket":
            run = self.server.runs.setdefault(variables["name"], {"history": [], "sent": 0})
            run.update({key: value for key, value in variables.items() if value is not None})
            project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "someone"}}
            return {
                "upsertBucket": {
                    "inserted": True,
                    "bucket": {
                        "id": "b",
                        "name": variables["name"],
                        "displayName": variables["displayName"],
                        "description": None,
                        "config": None,
                        "sweepName": None,
                        "historyLineCount": 0,
                        "project": project,
                    },
                }
            }
        if name in {"Viewer", "GetDefaultEntity"}:
            return {"viewer": SOMEONE}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.server.url}/upload/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if name == "UpsertView2":
            self.server.views.append(variables | {"spec": json.loads(variables["spec"])})
            return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}
        return self._of_artifact(name, variables)

    def _of_artifact(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer an operation on an artifact, whose id is its name."""
        given = variables.get("input", variables)
        title, artifacts = given.get("artifactID"), self.server.artifacts
        match name:
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "ArtifactByID":
                return {"artifact": self._artifact(given["id"])}
            case "CreateArtifact":
                title = given["artifactCollectionName"]
                stored = {"type": given["artifactTypeName"], "digest": given["digest"], "run": given["runName"]}
                artifacts[title] = stored | {"files": {}, "committed": False}
                artifact = {"id": title, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            case "CreateArtifactManifest":
                place = f"{self.server.url}/upload/{title}/manifest"
                return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": _place(place)}}}
            case "CreateArtifactFiles":
                nodes = [self._file(file) for file in given["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CommitArtifact":
                files = artifacts[title]["files"]
                artifacts[title]["files"] = {file: self.server.uploaded[place] for file, place in files.items()}
                artifacts[title]["committed"] = True
                artifact = {"id": title, "digest": artifacts[title]["digest"]}
            case _:
                return {}
        return {f"{name[0].lower()}{name[1:]}": {"artifact": artifact}}

    def _file(self, file: dict[str, Any]) -> dict[str, Any]:
        title, place = file["artifactID"], f"{file['artifactID']}/files/{file['name']}"
        self.server.artifacts[title]["files"][file["name"]] = place
        more = {"storagePath": place, "uploadMultipartUrls": None, "artifact": {"id": title}}
        return _place(f"{self.server.url}/upload/{place}") | more

    def _artifact(self, title: str) -> dict[str, Any]:
        stored = self.server.artifacts[title]
        project = {"id": "p", "internalId": "p", "name": "grid", "entity": {"name": "someone"}}
        return {
            "__typename": "Artifact", "id": title, "versionIndex": 0, "artifactType": {"name": stored["type"]},
            "artifactSequence": {"__typename": "ArtifactSequence", "name": title, "project": project},
            "description": None, "metadata": None, "ttlDurationSeconds": 0, "ttlIsInherited": True, "tags": [],
            "historyStep": None, "state": "COMMITTED", "size": 0, "digest": stored["digest"], "commitHash": None,
            "fileCount": len(stored["files"]), "createdAt": "2020-01-01T00:00:00", "updatedAt": None, "aliases": [],
        }  # fmt: skip

    def _take(self, run: dict[str, Any], content: dict[str, Any]) -> None:
        run["exit_code"] = content.get("exitcode")
        for file, piece in content.get("files", {}).items():
            lines = [json.loads(line) for line in piece["content"]]
            if file == "wandb-history.jsonl":
                run["history"][piece["offset"] :] = lines
            elif file == "wandb-summary.json":
                run["summary"] = lines[-1]

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, what: str, content: dict[str, Any]) -> None:
        if self.server.stalled and self.server.stalled in what:
            self.server.closing.wait()
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _place(url: str) -> dict[str, Any]:
    return {"uploadUrl": url, "uploadHeaders": []}


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server that answers unless it is stalled."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@contextmanager
def silence() -> Iterator[str]:
    """Yield the address of a server that accepts connections but never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def closed() -> str:
    """Return the address of a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"
