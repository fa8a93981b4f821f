# SPDX-License-Identifier: Apache-2.0
"""The few endpoints of the Hub that are needed to fetch a model, on loopback, with a log of requests."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(
    r"^/api/models/(?P<repo>[^/]+/[^/]+?)(?:/(?P<kind>revision|tree)/(?P<revision>[^/?]+))?(?:\?.*)?$"
)
FILE = re.compile(r"^/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


@dataclass
class Request:
    """One request and how many bytes of a file were sent back for it."""

    method: str
    path: str
    sent: int = 0


@dataclass
class Hub:
    """`repos` maps "owner/name" to a folder; every branch points to COMMIT."""

    repos: dict[str, Path]
    url: str = ""
    requests: list[Request] = field(default_factory=list)

    def sent(self, name: str) -> int:
        """Bytes sent of files called `name`."""
        return sum(request.sent for request in self.requests if request.path.endswith(f"/{name}"))

    def revision(self, repo: str, revision: str) -> Path | None:
        """The folder of `repo` if it has this revision."""
        return self.repos.get(repo) if revision in ("main", COMMIT) else None


class Handler(BaseHTTPRequestHandler):
    """Model info, file tree, HEAD and (ranged) GET of files, with the headers the client looks at."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr; `Hub.requests` is the log."""

    def _answer(self) -> None:
        request = Request(self.command, self.path)
        self.hub.requests.append(request)
        if self.path.startswith("/api/models?"):
            self._search(self.path)
        elif api := API.match(self.path):
            self._model(api["repo"], api["kind"], api["revision"] or "main")
        elif file := FILE.match(self.path):
            self._file(request, file["repo"], file["revision"], file["path"])
        else:
            self._send(404, b"", {})

    def _model(self, repo: str, kind: str | None, revision: str) -> None:
        if repo not in self.hub.repos:
            # the Hub does not say whether a model is private or absent
            self._send(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        folder = self.hub.revision(repo, revision)
        if folder is None:
            self._send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return
        files = sorted(folder.iterdir())
        if kind == "tree":
            body: object = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _etag(file)}
                for file in files
            ]
        else:
            siblings = [{"rfilename": file.name} for file in files]
            body = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "private": False}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _search(self, path: str) -> None:
        words = parse_qs(urlsplit(path).query).get("search", [""])[0].lower()
        found = [{"id": repo, "downloads": 1234} for repo in self.hub.repos if words in repo.lower()]
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _file(self, request: Request, repo: str, revision: str, path: str) -> None:
        folder = self.hub.revision(repo, revision)
        if folder is None or not (folder / path).is_file():
            code = "EntryNotFound" if folder else "RepoNotFound"
            self._send(404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})
            return
        data = (folder / path).read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(folder / path)}"', "Accept-Ranges": "bytes"}
        wanted = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data = data[first : last + 1]
        request.sent = len(data) if self.command == "GET" else 0
        self._send(206 if wanted else 200, data, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def serving(repos: dict[str, Path]) -> Iterator[Hub]:
    """A Hub on a free port of loopback."""
    hub = Hub(repos)
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
