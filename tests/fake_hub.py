"""A hub on this machine that serves folders as data sets, in the real hub's API as far as a download needs it.

Of the paths and headers of huggingface_hub 2.4's `HfApi.dataset_info`, `list_repo_tree` (pages by the `Link` header),
`get_hf_file_metadata`, `http_get` and `hf_raise_for_status`: files of LFS are redirected to another host, which answers
range requests; errors carry `X-Error-Code`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_accepted"
PAGE = 2  # entries of a page of a tree; the hub's have a thousand
SMALL = (".md", ".json")  # kept in git, the rest in LFS


class Asked(NamedTuple):
    """A request that was made."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class FakeHub:
    """What is served.

    Attributes:
        endpoint: address.
        folder: holds <org>/<repository>/..., and of branches other than main <org>/<repository>@<branch>/...
        gated: data sets for which `TOKEN` is wanted.
        corrupt: files (by name) that are served with one bit changed.
        cut: files -> number of bytes after which the connection is closed, once.
        on_cut: called before that.
        asked: all requests.
    """

    endpoint: str
    folder: Path
    gated: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    on_cut: Callable[[], object] = lambda: None
    asked: list[Asked] = field(default_factory=list)

    def commit(self, repository: str, branch: str = "main") -> str:
        """Of all files' contents."""
        digest = hashlib.sha1(branch.encode())
        for path, content in self.files(repository, branch).items():
            digest.update(path.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()

    def branch(self, repository: str, revision: str) -> str | None:
        """The one that a revision, its name or its commit, is of."""
        others = [
            f.name.partition("@")[2] for f in (self.folder / repository).parent.glob(f"{Path(repository).name}@*")
        ]
        return next((b for b in ("main", *others) if revision in (b, self.commit(repository, b))), None)

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """Path -> content."""
        folder = self.folder / (repository if branch == "main" else f"{repository}@{branch}")
        return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

    def fetched(self, name: str) -> list[str | None]:
        """Ranges in which the content of a file of that name was asked for."""
        return [a.range for a in self.asked if a.method == "GET" and a.path.startswith("/lfs/") and name in a.path]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "oid": git, "size": len(content), "path": path}
    if not path.endswith(SMALL):
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
    return entry


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms

    def log_message(self, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append(Asked(self.command, unquote(url.path), self.headers.get("range"), token))
        steps = unquote(url.path).strip("/").split("/")
        if steps[0] == "lfs":
            self._content("/".join(steps[1:3]), steps[3], "/".join(steps[4:]))
        elif steps[:2] == ["api", "datasets"]:
            self._api("/".join(steps[2:4]), steps[4:], parse_qs(url.query), token)
        elif steps[0] == "datasets" and steps[3] == "resolve":
            self._resolve("/".join(steps[1:3]), steps[4], "/".join(steps[5:]), token)
        else:
            self._send(404, {}, b"")

    def _api(self, repository: str, rest: list[str], query: dict[str, list[str]], token: str | None) -> None:
        if not (self.hub.folder / repository).is_dir():
            return self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}")
        branch = self.hub.branch(repository, rest[1] if len(rest) > 1 else "main")
        if branch is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        commit = self.hub.commit(repository, branch)
        if rest[:1] != ["tree"]:  # open to all, also of gated data sets
            gated = "auto" if repository in self.hub.gated else False
            about = {"id": repository, "sha": commit, "gated": gated, "private": False, "downloads": 0, "tags": []}
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(about).encode())
        if self._refused(repository, token):
            return None
        entries = [_entry(path, content) for path, content in self.hub.files(repository, branch).items()]
        start = int(query.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json"}
        if start + PAGE < len(entries):
            here = f"{self.hub.endpoint}/api/datasets/{repository}/tree/{commit}"
            headers["Link"] = f'<{here}?recursive=True&cursor={start + PAGE}>; rel="next"'
        return self._send(200, headers, json.dumps(entries[start : start + PAGE]).encode())

    def _refused(self, repository: str, token: str | None) -> bool:
        if repository not in self.hub.gated or token == TOKEN:
            return False
        message = f"Access to dataset {repository} is restricted."
        self._send(403 if token else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": message}, b"")
        return True

    def _resolve(self, repository: str, commit: str, path: str, token: str | None) -> None:
        if self._refused(repository, token):
            return
        branch = self.hub.branch(repository, commit)
        content = self.hub.files(repository, branch).get(path) if branch else None
        if content is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
        entry = _entry(path, content)
        if "lfs" not in entry:
            return self._send(200, {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"'}, content)
        elsewhere = self.hub.endpoint.replace("127.0.0.1", "localhost")
        linked = {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(len(content))}
        place = f"{elsewhere}/lfs/{repository}/{branch}/{path}"
        return self._send(302, {"X-Repo-Commit": commit, "Location": place, **linked}, b"")

    def _content(self, repository: str, branch: str, path: str) -> None:
        content = self.hub.files(repository, branch)[path]
        name = path.rsplit("/", 1)[-1]
        if name in self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        first = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{sha256(content)}"', "Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        rest = content[first:]
        self._send(206 if first else 200, headers, rest, cut=self.hub.cut.pop(name, None))

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.hub.on_cut()
            self.close_connection = True


@contextmanager
def served(folder: Path) -> Iterator[FakeHub]:
    """A hub with the data sets of a folder, as long as the block lasts."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}", folder)
    handler.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
