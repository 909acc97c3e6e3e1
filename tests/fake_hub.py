"""
A Hugging Face Hub for tests: model repositories in memory, over real HTTP on the loopback interface.

    with FakeHub() as hub:
        hub.commit("someone/model", {"README.md": b"..."})
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **hub.environment(tmp_path)}, check=True)
        print(hub.files("someone/model"), hub.requests)

huggingface_hub reads `HF_ENDPOINT` when it is imported, so a client is a fresh process with `environment(...)`; nothing
of it is patched. Endpoints: those that its version 2 calls to create a repository, validate a card, upload (preupload,
LFS batch, PUT, commit as NDJSON, also as a pull request), create a branch, describe and list a repository, download
(resolve, HEAD and GET). Large files go through LFS but are served from `resolve` itself, with no redirect. Writing
takes the token `TOKEN`. `faults` spoil the answers to chosen requests, see `hub_faults.py`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from .card_rules import card_errors
from .hub_faults import SECONDS, Fault

TOKEN = "hf_loopback"
USER = "someone"
# As on the Hub: what is binary or large goes through LFS.
LFS_SUFFIXES = (".safetensors", ".pt", ".bin", ".png")
REPO = r"(?P<repo>[^/]+/[^/]+)"


class HubError(Exception):
    """An answer other than success: status, `X-Error-Code`, message."""

    def __init__(self, status: int, code: str, message: str, body: dict | None = None):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.body = body or {"error": message}


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """Branches are lists of commits, the newest last."""

    branches: dict[str, list[Commit]] = field(default_factory=lambda: {"main": [Commit("0" * 40, "", {})]})

    def find(self, revision: str) -> Commit:
        if revision in self.branches:
            return self.branches[revision][-1]
        for commits in self.branches.values():
            for commit in commits:
                if commit.oid == revision:
                    return commit
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def commit(self, branch: str, message: str, files: dict[str, bytes]) -> Commit:
        if branch not in self.branches:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        number = sum(map(len, self.branches.values()))
        oid = hashlib.sha1(f"{number} {message} {sorted(files)}".encode()).hexdigest()
        self.branches[branch].append(Commit(oid, message, files))
        return self.branches[branch][-1]


class FakeHub:
    """The server; a context manager. `requests` holds (method, path) of every request, in order."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, dict[str, bytes]] = {}  # repository -> sha256 -> what was uploaded
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []  # the first that takes a request spoils its answer
        self.elsewhere = ""  # the URL of the host that a fault redirects to
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "FakeHub":
        self.thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Environment variables of a client: this endpoint, no Xet, and `home` for its caches."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(Path(home) / "hub"),
            "HF_MODULES_CACHE": str(Path(home) / "modules"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **({"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}),
        }

    def commit(self, repo: str, files: dict[str, bytes], message: str = "by the test") -> str:
        """Adds files to a repository, which is made if need be; returns the commit."""
        repository = self.repositories.setdefault(repo, Repository())
        return repository.commit("main", message, {**repository.find("main").files, **files}).oid

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository by path."""
        return self.repositories[repo].find(revision).files

    def messages(self, repo: str, branch: str = "main") -> list[str]:
        """The commit messages of a branch, the newest last."""
        return [commit.message for commit in self.repositories[repo].branches[branch][1:]]

    def downloads(self, repo: str) -> list[str]:
        """The files of a repository that were downloaded, in order."""
        pattern = re.compile(rf"/{re.escape(repo)}/resolve/[^/]+/(.+)")
        return [
            unquote(match[1]) for method, path in self.requests if method == "GET" and (match := pattern.match(path))
        ]

    # Endpoints. Each takes the request and the named groups of its route, and returns (status, headers, body).

    def who_am_i(self, request):
        return 200, {}, {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    def validate_yaml(self, request):
        errors = [{"message": message} for message in card_errors(request.json()["content"])]
        return (400 if errors else 200), {}, {"errors": errors, "warnings": []}

    def create_repository(self, request):
        asked = request.json()
        repo = f"{asked.get('organization') or USER}/{asked['name']}"
        url = f"{self.url}/{repo}"
        if repo in self.repositories:
            raise HubError(409, "RepoExists", "You already created this model repo", {"error": "exists", "url": url})
        self.repositories[repo] = Repository()
        return 200, {}, {"url": url, "name": repo, "id": repo}

    def create_branch(self, request, repo, branch):
        repository = self.repository(repo)
        if branch in repository.branches:
            raise HubError(409, "BranchExists", f"Reference already exists: {branch}")
        start = request.json().get("startingPoint", "main")
        repository.branches[branch] = [repository.find(start)]
        return 200, {}, {}

    def preupload(self, request, repo, revision):
        there = self.repository(repo).find(revision).files
        return 200, {}, {"files": [_upload_mode(file["path"], there) for file in request.json()["files"]]}

    def lfs_batch(self, request, repo):
        self.repository(repo)
        objects = []
        for wanted in request.json()["objects"]:
            there = wanted["oid"] in self.objects.get(repo, {})
            actions = (
                {}
                if there
                else {"actions": {"upload": {"href": f"{self.url}/lfs/{repo}/{wanted['oid']}", "header": {}}}}
            )
            objects.append({**wanted, **actions})
        return 200, {"Content-Type": "application/vnd.git-lfs+json"}, {"transfer": "basic", "objects": objects}

    def lfs_upload(self, request, repo, oid):
        content = request.body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise HubError(400, "BadDigest", f"{oid} is not the sha256 of what was uploaded")
        self.objects.setdefault(repo, {})[oid] = content
        return 200, {}, {}

    def create_commit(self, request, repo, revision):
        repository = self.repository(repo)
        lines = [json.loads(line) for line in request.body().splitlines() if line.strip()]
        files = dict(repository.find(revision).files)
        for line in lines[1:]:
            _apply(line["key"], line["value"], files, self.objects.get(repo, {}))
        answer = {"success": True, "hookOutput": ""}
        if "create_pr" in request.query:
            number = 1 + sum(branch.startswith("refs/pr/") for branch in repository.branches)
            revision = f"refs/pr/{number}"
            repository.branches[revision] = [repository.find("main")]
            answer["pullRequestUrl"] = f"{self.url}/{repo}/discussions/{number}"
        commit = repository.commit(revision, lines[0]["value"]["summary"], files)
        url = f"{self.url}/{repo}/commit/{commit.oid}"
        return 200, {}, {**answer, "commitOid": commit.oid, "commitUrl": url}

    def model_info(self, request, repo, revision="main"):
        commit = self.repository(repo).find(revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        return 200, {}, {"id": repo, "modelId": repo, "sha": commit.oid, "private": False, "siblings": siblings}

    def tree(self, request, repo, revision, folder=""):
        files = self.repository(repo).find(revision).files
        prefix = f"{folder}/" if folder else ""
        entries = [_tree_entry(path, content) for path, content in sorted(files.items()) if path.startswith(prefix)]
        if folder and not entries:
            raise HubError(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        if request.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            entries = [entry for entry in entries if "/" not in entry["path"][len(prefix) :]]
        return 200, {}, entries

    def resolve(self, request, repo, revision, path):
        commit = self.repository(repo).find(revision)
        if path not in commit.files:
            error = HubError(404, "EntryNotFound", f"{path} does not exist on {revision}")
            error.headers["X-Repo-Commit"] = commit.oid
            raise error
        content = commit.files[path]
        headers = {"ETag": f'"{_etag(path, content)}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "none"}
        return 200, headers, content

    def repository(self, repo: str) -> Repository:
        if repo not in self.repositories:
            raise HubError(404, "RepoNotFound", f"Repository {repo} not found")
        return self.repositories[repo]


# (method, path, endpoint); the first that matches answers.
ROUTES: list[tuple[str, str, Callable]] = [
    ("GET", r"/api/whoami-v2", FakeHub.who_am_i),
    ("POST", r"/api/validate-yaml", FakeHub.validate_yaml),
    ("POST", r"/api/repos/create", FakeHub.create_repository),
    ("POST", rf"/api/models/{REPO}/branch/(?P<branch>[^/]+)", FakeHub.create_branch),
    ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", FakeHub.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", FakeHub.lfs_batch),
    ("PUT", rf"/lfs/{REPO}/(?P<oid>[0-9a-f]{{64}})", FakeHub.lfs_upload),
    ("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)", FakeHub.create_commit),
    ("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)", FakeHub.tree),
    ("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)/(?P<folder>.+)", FakeHub.tree),
    ("GET", rf"/api/models/{REPO}/revision/(?P<revision>[^/]+)", FakeHub.model_info),
    ("GET", rf"/api/models/{REPO}", FakeHub.model_info),
    ("GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", FakeHub.resolve),
]
# Reading is for everybody; validating a card changes nothing.
WITHOUT_TOKEN = (FakeHub.validate_yaml, FakeHub.lfs_upload)


def _apply(kind: str, value: dict, files: dict[str, bytes], objects: dict[str, bytes]) -> None:
    """One line of a commit."""
    path = value["path"]
    if kind == "file":
        files[path] = base64.b64decode(value["content"])
    elif kind == "lfsFile":
        if value["oid"] not in objects:
            raise HubError(400, "LfsObjectMissing", f"{path} was not uploaded")
        files[path] = objects[value["oid"]]
    elif kind == "deletedFile":
        files.pop(path, None)
    elif kind == "deletedFolder":
        for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
            del files[name]
    else:
        raise HubError(400, "BadCommit", f"unknown operation {kind}")


def _etag(path: str, content: bytes) -> str:
    """As on the Hub: sha256 of a file in LFS, git's object id of another."""
    if path.endswith(LFS_SUFFIXES):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _upload_mode(path: str, there: dict[str, bytes]) -> dict:
    mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
    oid = _etag(path, there[path]) if path in there else None
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def _tree_entry(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _etag(path, content)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": entry["oid"], "size": len(content), "pointerSize": 134}
    return entry


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer()

        do_HEAD = do_POST = do_PUT = do_GET

        def answer(self) -> None:
            self.content = self.read_body()
            parts = urlsplit(self.path)
            self.query = parse_qs(parts.query)
            with hub.lock:
                hub.requests.append((self.command, parts.path))
                fault = next((own for own in hub.faults if own.takes(self.command, parts.path)), None)
            kind = fault and fault.kind
            if kind in ("drop", "stall"):
                self.silent(kind == "stall")
                return
            with hub.lock:
                try:
                    if isinstance(kind, int):
                        raise HubError(kind, "Broken", "the test wants it so")
                    if kind == "redirect":
                        answer = self.dispatch(parts.path) if self.command in ("GET", "HEAD") else (307, {}, b"")
                        status, headers, body = self.led_away(*answer)
                    else:
                        status, headers, body = self.dispatch(parts.path)
                except HubError as error:
                    status, headers, body = error.status, error.headers, error.body
            if kind == "late":
                self.silent(True)
                return
            headers = {} if kind == "page" else headers
            self.send(status, headers | (fault.headers if fault else {}), body, fault)

        def led_away(self, status: int, headers: dict, body: dict | list | bytes) -> tuple[int, dict, bytes]:
            """The redirect of an answer to another host. As on the Hub, it says what file will be found there."""
            linked = {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(body))} if "ETag" in headers else {}
            return 307, headers | linked | {"Location": hub.elsewhere + self.path}, b""

        def silent(self, waits: bool) -> None:
            """No answer: the connection ends, at once or after a while."""
            self.close_connection = True
            if waits:
                hub.stopped.wait(SECONDS)

        def dispatch(self, path: str) -> tuple[int, dict, dict | list | bytes]:
            method = "GET" if self.command == "HEAD" else self.command
            for route_method, pattern, endpoint in ROUTES:
                if route_method == method and (match := re.fullmatch(pattern, path)):
                    self.check_token(method, endpoint)
                    return endpoint(hub, self, **{name: unquote(value) for name, value in match.groupdict().items()})
            raise HubError(404, "NoRoute", f"the fake Hub has no {self.command} {path}")

        def check_token(self, method: str, endpoint: Callable) -> None:
            writes = method != "GET" and endpoint not in WITHOUT_TOKEN
            if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise HubError(401, "Unauthorized", "Invalid username or password.")

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def body(self) -> bytes:
            return self.content

        def json(self) -> dict:
            return json.loads(self.content or b"{}")

        def send(self, status: int, headers: dict, body: dict | list | bytes, fault: Fault | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            content = fault.spoiled(content) if fault and isinstance(body, bytes) else content
            kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            self.send_response(status)
            for name, value in {"Content-Type": kind, **headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if fault and fault.kind == "cut":
                self.close_connection = True
                content = content[: len(content) // 2]
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *arguments) -> None:
            """Nothing: `requests` is the log."""

    return Handler
