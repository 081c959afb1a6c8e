"""A Hugging Face Hub on localhost with one repository: enough of its protocol for downloads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves `folder` as the repository `repo`; `sent` are the files that were downloaded."""

    def __init__(self, repo: str, folder: Path, gated: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repo, self.folder, self.gated = repo, folder, gated
        self.sent: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        api, files = f"/api/models/{self.server.repo}", f"/{self.server.repo}/resolve/"
        names = sorted(p for p in self.server.folder.rglob("*") if p.is_file())
        paths = {p.relative_to(self.server.folder).as_posix(): p.stat().st_size for p in names}
        if path == f"{api}/revision/main":
            siblings = [{"rfilename": path} for path in paths]
            self._send_json({"id": self.server.repo, "sha": COMMIT, "siblings": siblings})
        elif path in (f"{api}/tree/main", f"{api}/tree/{COMMIT}"):
            kind = {"type": "file", "oid": COMMIT}
            self._send_json([kind | {"path": path, "size": paths[path]} for path in paths])
        elif path.startswith(files):
            self._send_file(path.removeprefix(files).partition("/")[2])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _send_file(self, name: str) -> None:
        if self.server.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        content = (self.server.folder / name).read_bytes()
        if self.command == "GET":
            self.server.sent.append(name)
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@contextmanager
def hub_server(repo: str, folder: Path, gated: bool = False) -> Iterator[HubServer]:
    """A running server, stopped at the end."""
    with HubServer(repo, folder, gated) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
