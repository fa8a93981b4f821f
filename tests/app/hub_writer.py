# SPDX-License-Identifier: Apache-2.0
"""The few endpoints of the Hub that a push needs, on loopback: it keeps what it is given."""

import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_this-is-a-secret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubWriter:
    """What was stored. `fails_at` drops the connection at that upload, counted from 0."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    visibility: str = ""
    commits: int = 0
    uploads: int = 0
    fails_at: int | None = None
    tokens: set[str] = field(default_factory=set)


class Handler(BaseHTTPRequestHandler):
    """Create, validate a card, ask how to send, send a large file, commit."""

    protocol_version = "HTTP/1.1"
    hub: HubWriter

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if sent:
            self.hub.tokens.add(sent)
        if sent != TOKEN and not self.path.startswith("/api/validate-yaml"):
            return self._json(401, {"error": f"Invalid credentials, you sent {sent}"})
        if self.path == "/api/repos/create":
            said = json.loads(body)
            self.hub.visibility = said.get("visibility", "public")
            return self._json(200, {"url": f"{self.hub.url}/{said['organization']}/{said['name']}"})
        if self.path.startswith("/api/validate-yaml"):
            return self._json(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            return self._json(200, {"files": [self._mode(one) for one in json.loads(body)["files"]]})
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._json(200, {"objects": [self._blob(one) for one in json.loads(body)["objects"]]})
        if "/commit/" in self.path:
            return self._commit(body)
        return self._json(404, {"error": self.path})

    def do_GET(self) -> None:
        """Model info, asked for when nothing has changed."""
        if re.match(r"/api/models/[^/]+/[^/]+(/revision/main)?(\?.*)?$", self.path):
            return self._json(200, {"id": "owner/tiny", "sha": COMMIT, "siblings": [], "private": True})
        return self._json(404, {"error": self.path})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.uploads == self.hub.fails_at:
            return self._json(400, {"error": "the disk of the Hub is full"})
        self.hub.uploads += 1
        self.hub.blobs[hashlib.sha256(body).hexdigest()] = body
        return self._json(200, {})

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        name = file["path"]
        known = self.hub.files.get(name)
        is_large = name.endswith(".safetensors")
        oid = None
        if known is not None:
            blob = b"blob %d\0" % len(known) + known
            oid = hashlib.sha256(known).hexdigest() if is_large else hashlib.sha1(blob).hexdigest()
        mode = "lfs" if is_large else "regular"
        return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _blob(self, one: dict[str, Any]) -> dict[str, Any]:
        known = one["oid"] in self.hub.blobs
        action = {} if known else {"actions": {"upload": {"href": f"{self.hub.url}/put/{one['oid']}"}}}
        return {"oid": one["oid"], "size": one["size"]} | action

    def _commit(self, body: bytes) -> None:
        for line in body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "file":
                self.hub.files[value["path"]] = b64decode(value["content"])
            elif said["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.blobs[value["oid"]]
        self.hub.commits += 1
        self._json(200, {"commitUrl": f"{self.hub.url}/owner/tiny/commit/{COMMIT}", "commitOid": COMMIT})

    def _json(self, status: int, said: object) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def accepting() -> Iterator[HubWriter]:
    """A Hub on a free port of loopback that takes uploads with TOKEN."""
    hub = HubWriter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
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
