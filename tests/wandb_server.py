"""As much of a W&B server as its client needs to upload a run, and servers that do not answer."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Keeps what arrives. runs: the last values of every run by its id; asked: the names of the GraphQL operations.

    stalled: requests whose operation or path contains it are never answered while it is set.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.stalled = ""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client drops its connections when it ends."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None: ...

    def do_PUT(self) -> None:
        self._answer(self.path, {})

    def do_POST(self) -> None:
        if self.path == "/graphql":
            asked = json.loads(self._body())
            self._answer(asked["query"], {"data": self._resolve(asked["query"], asked.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            if not (self.server.stalled and self.server.stalled in self.path):
                self._take(self.server.runs[self.path.split("/")[-2]], json.loads(self._body()))
            self._answer(self.path, {"exitcode": None, "limits": {}})
        else:
            self._answer(self.path, {})

    def _resolve(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        name = query.split("(", maxsplit=1)[0].rsplit(maxsplit=1)[-1]
        self.server.asked.append(name)
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
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.server.url}/upload/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

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
        if self.command == "PUT":
            self._body()
        if self.server.stalled and self.server.stalled in what:
            self.server.closing.wait()
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve() -> Iterator[Server]:
    """A server that answers, unless it is stalled."""
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
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def closed() -> str:
    """The address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"
