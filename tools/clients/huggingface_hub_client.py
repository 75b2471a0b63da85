"""Reads with huggingface_hub what pumice pull wrote, and the other way round: PUMICE DIRECTORY GGUF.

A Hub of its own has both models: DIRECTORY as o/directory, GGUF as o/gguf. Each test has an empty cache.
"""

import hashlib
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse

pumice, directory, gguf = sys.argv[1:]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS = (".safetensors", ".gguf")


class File:
    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        self.lfs = path.name.endswith(LFS)
        self.git = hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()
        self.hash = hashlib.sha256(self.data).hexdigest() if self.lfs else self.git

    def listing(self):
        more = {"lfs": {"sha256": self.hash, "oid": self.hash, "size": len(self.data), "pointerSize": 134}} if self.lfs else {}
        return {"size": len(self.data), "blobId": self.git, "oid": self.git} | more


REPOS = {
    "o/directory": {p.name: File(p) for p in pathlib.Path(directory).iterdir() if p.is_file()},
    "o/gguf": {"README.md": File(pathlib.Path("README.md")), "small-Q4_1.gguf": File(pathlib.Path(gguf))},
}
fetched = []  # names of files whose contents were sent


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = urllib.parse.unquote(self.path.partition("?")[0])
        if m := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/([^/]+))?", path):
            siblings = [{"rfilename": name} | f.listing() for name, f in REPOS[m[1]].items()]
            return self.answer(200, json.dumps({"id": m[1], "sha": COMMIT, "siblings": siblings}).encode())
        if m := re.fullmatch(r"/api/models/(\w+/\w+)/tree/([^/]+)", path):
            tree = [{"type": "file", "path": name} | f.listing() for name, f in REPOS[m[1]].items()]
            return self.answer(200, json.dumps(tree).encode())
        m = re.fullmatch(r"/(\w+/\w+)/resolve/([^/]+)/(.+)", path)
        if not m or m[3] not in REPOS[m[1]]:
            return self.answer(404, X_Error_Code="EntryNotFound")
        f = REPOS[m[1]][m[3]]
        headers = {"X_Repo_Commit": COMMIT, "ETag": f'"{f.hash}"', "Accept_Ranges": "bytes"}
        if f.lfs:
            headers |= {"X_Linked_Etag": f'"{f.hash}"', "X_Linked_Size": str(len(f.data))}
        if self.command == "GET":
            fetched.append(m[3])
        if r := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(r[1]), min(int(r[2] or len(f.data)), len(f.data) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(f.data)}"
            return self.answer(206, f.data[start:end + 1], **headers)
        self.answer(200, f.data, **headers)

    do_HEAD = do_GET


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
work = tempfile.TemporaryDirectory()
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": work.name, "HF_TOKEN": "hf_test",
               "XDG_CACHE_HOME": work.name, "OLLAMA_MODELS": work.name,
               "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
    os.environ.pop(name, None)

import huggingface_hub as hub  # noqa: E402  (reads the environment)


def cache(name):
    """An empty cache."""
    fetched.clear()
    os.environ["HF_HUB_CACHE"] = os.path.join(work.name, name)
    return os.environ["HF_HUB_CACHE"]


def run(*args, **environment):
    done = subprocess.run([pumice, *args], capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, (args, done.stderr)
    return json.loads(done.stdout) if "--json" in args else done.stdout


def scan(where, files, size):
    """Holds that huggingface_hub sees one sound snapshot."""
    info = hub.scan_cache_dir(where)
    assert not info.warnings, info.warnings
    (repo,) = info.repos
    (revision,) = repo.revisions
    assert revision.commit_hash == COMMIT and revision.refs == {"main"} and repo.size_on_disk == size, revision
    assert {f.file_name for f in revision.files} == files, revision.files


NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:1"}

# A directory that pumice fetched.
where = cache("ours")
wanted = {n for n in REPOS["o/directory"] if n.endswith((".json", ".safetensors", ".model", ".txt")) and n.isascii()}
size = sum(len(REPOS["o/directory"][n].data) for n in wanted)
(got,) = run("pull", "hf:o/directory", "--json")
assert set(got["files"]) == wanted and got["fetched_bytes"] == got["bytes"] == size, (got, wanted)
scan(where, wanted, size)
found = hub.snapshot_download("o/directory", local_files_only=True, cache_dir=where)
for name in wanted:
    path = hub.hf_hub_download("o/directory", name, local_files_only=True, cache_dir=where)
    assert pathlib.Path(path).read_bytes() == REPOS["o/directory"][name].data and path == os.path.join(found, name)
fetched.clear()
hub.snapshot_download("o/directory", allow_patterns=list(wanted), cache_dir=where)
assert not fetched, fetched
before = run("inspect", "hf:o/directory", "--json", **NOWHERE)

# huggingface_hub removes it.
hub.scan_cache_dir(where).delete_revisions(COMMIT).execute()
assert run("list", "--json") == [], run("list")

# A directory that huggingface_hub fetched.
where = cache("theirs")
hub.snapshot_download("o/directory", cache_dir=where)
fetched.clear()
assert run("inspect", "hf:o/directory", "--json", **NOWHERE).keys() == before.keys()
(got,) = run("pull", "hf:o/directory", "--json")
assert got["fetched_bytes"] == 0 and not fetched, (got, fetched)
(listed,) = run("list", "--json")
assert listed["name"] == "hf:o/directory" and listed["bytes"] == size and not listed["incomplete"], listed
(removed,) = run("rm", "hf:o/directory", "--json")
assert removed["freed_bytes"] == sum(len(f.data) for f in REPOS["o/directory"].values()), removed
info = hub.scan_cache_dir(where)
assert not info.repos and not info.warnings, info

# A GGUF file, of which a part is there, as huggingface_hub before 1.0 left it.
where = cache("begun")
f = REPOS["o/gguf"]["small-Q4_1.gguf"]
blob = pathlib.Path(where, "models--o--gguf", "blobs", f.hash + ".incomplete")
blob.parent.mkdir(parents=True)
blob.write_bytes(f.data[:len(f.data) // 2])
(got,) = run("pull", "hf:o/gguf:q4_1", "--json")
assert got["models"] == ["hf:o/gguf:small-Q4_1.gguf"] and not blob.exists(), got
scan(where, {"small-Q4_1.gguf"}, len(f.data))
path = hub.hf_hub_download("o/gguf", "small-Q4_1.gguf", local_files_only=True, cache_dir=where)
assert hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() == f.hash
assert run("inspect", "hf:o/gguf", "--json", **NOWHERE)
assert run("tokenize", "hf:o/gguf:Q4_1", "--json", "Hello", **NOWHERE)["ids"]

# Both at once fetch it once.
where = cache("both")
other = subprocess.Popen([pumice, "pull", "hf:o/gguf:Q4_1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
hub.hf_hub_download("o/gguf", "small-Q4_1.gguf", cache_dir=where)
assert other.wait() == 0
scan(where, {"small-Q4_1.gguf"}, len(f.data))
print(f"huggingface_hub {hub.__version__}: all right")
