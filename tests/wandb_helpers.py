"""W&B without W&B: a reader of its offline files, and a loopback stand-in for its server."""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "k" * 40
_BLOCK = 32768
_RECORD_HEADER = struct.Struct("<IHB")


@dataclass
class OfflineRun:
    """What one offline folder holds."""

    id: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None


def read_offline_run(folder: Path) -> OfflineRun:
    """Read the W&B records of one offline folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    run, names = OfflineRun(), {}
    (path,) = folder.glob("*.wandb")
    for data in _chunks(path.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id, run.group, run.job_type = record.run.run_id, record.run.run_group, record.run.job_type
            run.name, run.project = record.run.display_name, record.run.project
            run.config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
        elif kind == "history":
            items = {_name(one): json.loads(one.value_json) for one in record.history.item}
            run.history.append({key: value for key, value in items.items() if not key.startswith("_")})
        elif kind == "summary":
            run.summary |= {_name(one): json.loads(one.value_json) for one in record.summary.update}
        elif kind == "metric":
            metric = record.metric
            names[len(names) + 1] = metric.name or metric.glob_name
            if metric.step_metric:
                run.step_metrics[metric.glob_name or metric.name] = metric.step_metric
        elif kind == "artifact":
            run.artifacts.append(record.artifact.type)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _chunks(data: bytes) -> Iterator[bytes]:
    """Yield the records of a `.wandb` file: LevelDB's log format behind a header of seven bytes."""
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + _RECORD_HEADER.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _RECORD_HEADER.size:
            at += left
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(data, at)
        if kind == 0:
            at += left
            continue
        at += _RECORD_HEADER.size
        parts += data[at : at + length]
        at += length
        if kind in {1, 4}:  # whole, or the last piece
            yield parts
            parts = b""


@dataclass
class Server:
    """A stand-in for a W&B server; `keys` are the keys it lets in."""

    url: str = ""
    mute: bool = False  # answers that it is there, and nothing else
    ended: threading.Event = field(default_factory=threading.Event)
    keys: tuple[str, ...] = (KEY,)
    operations: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    configs: dict[str, Any] = field(default_factory=dict)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def query(self, text: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL request."""
        name = (re.search(r"(?:query|mutation)\s+(\w+)", text) or ["", "?"])[1]
        self.operations.append(name)
        if name == "UpsertBucket":
            run_id = variables["name"]
            fresh = run_id not in self.history
            if fresh:
                self.created.append(run_id)
                self.history[run_id] = []
            if variables.get("config"):
                self.configs[run_id] = json.loads(variables["config"])
            project = {"name": "aceslm", "entity": {"name": "me"}}
            bucket = {"id": run_id, "name": run_id, "displayName": run_id, "description": "", "sweepName": ""}
            bucket |= {"config": "{}", "historyLineCount": len(self.history[run_id]), "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": fresh}}
        if name == "RunResumeStatus":
            bucket = self._bucket(variables["name"])
            return {"model": {"id": "m", "name": "aceslm", "entity": {"name": "me"}, "bucket": bucket}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if name == "CreateArtifact":
            self.artifacts.append(variables["input"]["artifactCollectionName"])
            latest = {"latestArtifact": {"id": "a"}}
            # committed: the server has these files already, so none is sent
            return {
                "createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": latest}}
            }
        if name in ANSWERS:
            return ANSWERS[name]
        self.unknown.append(name)
        return {}

    def _bucket(self, run_id: str) -> dict[str, Any] | None:
        if run_id not in self.history:
            return None
        lines = self.history[run_id]
        return {
            "id": run_id,
            "name": run_id,
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(self.summaries.get(run_id, {})),
            "config": "{}",
            "wandbConfig": "{}",
            "tags": [],
        }

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Take one file-stream request."""
        for name, content in (body.get("files") or {}).items():
            lines = [json.loads(line) for line in content["content"]]
            if name == "wandb-history.jsonl":
                kept = self.history.setdefault(run_id, [])
                kept[content["offset"] :] = lines
            elif name == "wandb-summary.json":
                self.summaries[run_id] = lines[-1]
        if body.get("complete"):
            self.finished.append(run_id)


ANSWERS: dict[str, dict[str, Any]] = {
    "ArtifactType": {"project": None},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
    "Viewer": {
        "viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
    },
}


@contextmanager
def silent_port() -> Iterator[str]:
    """Yield the address of a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def refusing_port() -> str:
    """Return the address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(**options: Any) -> Iterator[Server]:
    """Run a stand-in server on a loopback port."""
    server = Server(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> Any:
            data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            return json.loads(data) if data else {}

        def do_GET(self) -> None:
            self._reply({})

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self._reply({})

        def do_POST(self) -> None:
            body = self._body()
            if server.mute:
                server.ended.wait()
                return
            secret = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
            if secret.decode().partition(":")[2] not in server.keys:
                self._reply({"errors": [{"message": "permission denied"}]}, 401)
            elif self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], body)
                self._reply({"exitcode": None, "limits": {}})
            else:
                data = server.query(body.get("query", ""), body.get("variables") or {})
                self._reply({"data": data})

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            pass  # a client that was killed

    http = Quiet(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        http.server_close()
        thread.join()
