"""docker/caffe/fetch-source with local servers in the place of Debian's archive and snapshots.

The script runs as it is, in a copy of its folder whose source.sh tells the names and hashes of two made files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from tests.holding import HANG

CAFFE = Path(__file__).resolve().parents[2] / "docker/caffe"
CONTENTS = [os.urandom(300_000), os.urandom(5_000)]
CUT = 100_000  # bytes after which the server that cuts off does so


class Server(BaseHTTPRequestHandler):
    """The first part of a path is how to answer; files are known by name and by SHA-1. `asked` keeps what came."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        way, _, name = unquote(self.path).strip("/").partition("/")
        self.asked.append((f"{way}/{name}", self.headers.get("Range")))
        content = self.files.get(name)
        if way == "elsewhere":
            self.send_response(302)
            self.send_header("Location", f"/right/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if way == "missing" or content is None:
            self.send_error(404)
            return
        content = bytes(len(content)) if way == "wrong" else content
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Last-Modified", "Tue, 21 Aug 2018 00:00:00 GMT")
        self.end_headers()
        try:
            if way == "slow":
                for place in range(start, len(content)):
                    self.wfile.write(content[place : place + 1])
                    time.sleep(0.05)
            else:
                self.wfile.write(content[start : start + CUT] if way == "cut" else content[start:])
        except OSError:
            pass
        self.close_connection = way == "cut"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    if not Path("/usr/lib/apt/apt-helper").exists():
        pytest.skip("no apt")
    folder = tmp_path / "caffe"
    shutil.copytree(CAFFE, folder, ignore=shutil.ignore_patterns("src", "include", "patches"))
    text = (folder / "source.sh").read_text()
    for content, name in zip(CONTENTS, ("ORIG_FILE", "DEBIAN_FILE"), strict=True):
        for kind in ("sha256", "sha1"):
            text = re.sub(
                rf'({kind.upper()}=\((?:[^)]|\n)*?"\${name}"\]=)\w+',
                rf"\g<1>{hashlib.new(kind, content).hexdigest()}",
                text,
            )
    (folder / "source.sh").write_text(text)
    version = re.search("VERSION='(.*?)'", text)[1]
    for content, name in zip(
        CONTENTS, (f"caffe_{version}.orig.tar.gz", f"caffe_{version}-8.debian.tar.xz"), strict=True
    ):
        Server.files |= {name: content, hashlib.sha1(content).hexdigest(): content}
    return folder / "fetch-source"


@pytest.fixture
def fetch(script: Path, tmp_path: Path, address: str):
    """Run the script with a list of addresses, on a machine whose apt knows no mirror."""
    apt = tmp_path / "apt.conf"
    apt.write_text(
        'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "/dev/null";\n#clear Acquire::http::Proxy;\n'
    )

    def call(*lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "list.txt").write_text("# ours\n\n" + "".join(f"{line.format(address)}\n" for line in lines))
        given = {"APT_CONFIG": str(apt), "CAFFE_SOURCES": str(tmp_path / "list.txt"), "CAFFE_SOURCE_DIR": ""}
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return subprocess.run(
            [script, tmp_path / "source"],
            env={**kept, **given, **variables},
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )

    return call


def fetched(folder: Path) -> bool:
    return sorted(path.read_bytes() for path in (folder / "source").iterdir()) == sorted(CONTENTS)


@pytest.mark.parametrize(
    "lines",
    [
        ("{}/right/{{file}}",),
        ("{}/right/{{sha1}}  # a snapshot",),
        ("{}/elsewhere/{{file}}",),
        ("{}/missing/{{file}}", "http://127.0.0.1:1/{{file}}", "{}/wrong/{{file}}", "{}/right/{{file}}"),
    ],
)
def test_the_first_place_that_has_it(fetch, tmp_path, lines):
    done = fetch(*lines)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/source\n"), done.stderr
    assert fetched(tmp_path)
    if len(lines) > 1:
        said = done.stderr
        assert "Not Found" in said and "refused" in said and "another file under this name (SHA-256 differs)" in said
    Server.asked.clear()
    again = fetch()
    assert again.returncode == 0 and "kept in" in again.stderr and not Server.asked


def test_a_file_that_is_cut_off_goes_on(fetch, tmp_path):
    """At the next address, and at the next call."""
    first = fetch("{}/cut/{{file}}", "{}/cut/{{file}}", CAFFE_SOURCE_SECONDS="60")
    assert "does not give it" in first.stderr or first.returncode == 0
    ranges = [asked for name, asked in Server.asked if name.endswith(".orig.tar.gz")]
    assert ranges[0] is None and f"bytes={CUT}-" in ranges
    if first.returncode:
        assert fetch("{}/right/{{file}}").returncode == 0
    assert fetched(tmp_path)


def test_a_slow_place_is_given_up(fetch, tmp_path):
    done = fetch("{}/slow/{{file}}", "{}/right/{{file}}", CAFFE_SOURCE_SECONDS="2")
    assert done.returncode == 0 and "given up after 2 s: too slow" in done.stderr
    assert fetched(tmp_path)


@pytest.mark.parametrize(
    "lines, variables",
    [
        (("{}/missing/{{file}}",), {}),
        (("{}/wrong/{{file}}",), {}),
        (("http://127.0.0.1:1/{{file}}",), {}),
        ((), {}),
        (("{}/right/{{file}}",), {"CAFFE_SOURCES": "off"}),
    ],
)
def test_no_place_has_it(fetch, tmp_path, lines, variables):
    done = fetch(*lines, **variables)
    assert done.returncode == 3 and not done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("docker/caffe/fetch-source: no place has the source of Caffe") and "CAFFE_SOURCE_DIR" in last
    assert not list((tmp_path / "source").iterdir())
    if variables:
        assert not Server.asked


def test_a_list_that_is_not_there(fetch):
    done = fetch(CAFFE_SOURCES="/no/list")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(
        "CAFFE_SOURCES=/no/list is no file that can be read, nor `off`"
    )


def test_the_list_that_is_shipped():
    """Both of Debian's services, each with what it is asked by."""
    lines = [line for line in (CAFFE / "sources.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [re.search(r"\{(\w+)\}$", line)[1] for line in lines] == ["file", "sha1"]
