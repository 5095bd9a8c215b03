"""The Hugging Face hub in a thread: those of its endpoints that `huggingface_hub` calls to push and pull small files.

Every file is "regular", so that neither LFS nor xet is asked for. A token that begins with ``read`` may not write.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKENS = ("hf_write", "hf_read")


@dataclass
class Repo:
    """One repository: for each branch its commit, for each commit its files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = repr((branch, len(self.commits), sorted(files))).encode()
        name = hashlib.sha1(content).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        return name

    def at(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


class Hub(ThreadingHTTPServer):
    """The hub: its repositories by kind and name, and what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.asked: list[str] = []
        self.down = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, kind: str, repo: str, branch: str = "main") -> dict[str, bytes]:
        """What lies in a branch; changing it changes the repository."""
        found = self.repos[kind, repo]
        return found.commits[found.branches[branch]]


@contextmanager
def hub_stub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class _Refused(Exception):
    """An answer that is an error: its status, the hub's code of it, and words."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        try:
            if self.server.down:
                raise _Refused(503, "", "the hub is being mended")
            for pattern, action in _ROUTES.items():
                match = re.fullmatch(pattern, f"{self.command} {path}")
                if match:
                    getattr(self, action)(*match.groups())
                    return
            raise _Refused(404, "", f"the stub has no {self.command} {path}")
        except _Refused as refused:
            status, code, words = refused.args
            self._send(status, json.dumps({"error": words}).encode(), {"X-Error-Code": code, "X-Error-Message": words})

    do_GET = do_POST = do_HEAD = _answer

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _require_write(self) -> None:
        if self._token not in TOKENS:
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        if self._token != "hf_write":
            raise _Refused(403, "", "You don't have the rights to write to this repository")

    def _repo(self, kind: str, name: str) -> Repo:
        repo = self.server.repos.get((kind, name))
        if repo is None or (repo.private and self._token not in TOKENS):
            raise _Refused(404 if self._token else 401, "RepoNotFound", "Repository not found")
        return repo

    def _commit(self, repo: Repo, revision: str) -> str:
        commit = repo.at(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def create(self) -> None:
        self._require_write()
        asked = json.loads(self.body)
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        address = f"{self.server.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.server.repos:
            self._send(409, json.dumps({"error": "You already created this repo", "url": address}).encode())
            return
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.server.repos[kind, name] = repo = Repo(private)
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs"})
        self._json({"url": address})

    def branch(self, kind: str, name: str, branch: str) -> None:
        self._require_write()
        repo = self._repo(kind, name)
        if branch in repo.branches:
            raise _Refused(409, "", "Reference already exists")
        repo.commit(branch, dict(repo.commits[repo.branches["main"]]))
        self._json({})

    def validate(self) -> None:
        self._json({"warnings": [], "errors": []})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        self._require_write()
        self._commit(self._repo(kind, name), revision)
        names = [file["path"] for file in json.loads(self.body)["files"]]
        self._json({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in names]})

    def commit(self, kind: str, name: str, revision: str) -> None:
        self._require_write()
        repo = self._repo(kind, name)
        files = dict(repo.commits[self._commit(repo, revision)])
        for line in map(json.loads, self.body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = repo.commit(revision, files)
        self._json({"commitUrl": f"{self.server.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def info(self, kind: str, name: str, revision: str | None) -> None:
        repo = self._repo(kind, name)
        commit = self._commit(repo, revision or "main")
        siblings = [{"rfilename": path} for path in repo.commits[commit]]
        self._json({"id": name, "sha": commit, "private": repo.private, "siblings": siblings, "tags": []})

    def tree(self, kind: str, name: str, revision: str) -> None:
        repo = self._repo(kind, name)
        files = repo.commits[self._commit(repo, revision)]
        self._json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
        )

    def resolve(self, datasets: str | None, name: str, revision: str, path: str) -> None:
        repo = self._repo("dataset" if datasets else "model", name)
        commit = self._commit(repo, revision)
        content = repo.commits[commit].get(path)
        if content is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        self._send(200, content, headers)


_API = r"/api/(model|dataset)s/([\w.-]+/[\w.-]+)"
_ROUTES = {
    r"POST /api/repos/create": "create",
    r"POST /api/validate-yaml": "validate",
    rf"POST {_API}/branch/(.+)": "branch",
    rf"POST {_API}/preupload/(.+)": "preupload",
    rf"POST {_API}/commit/(.+)": "commit",
    rf"GET {_API}(?:/revision/(.+))?": "info",
    rf"GET {_API}/tree/(.+)": "tree",
    r"(?:GET|HEAD) /(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)": "resolve",
}
