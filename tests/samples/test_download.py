"""Downloads from a real server on this machine: whole, damaged, too large, hostile."""

from __future__ import annotations

import io
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gdmix_core.errors import DataError
from gdmix_core.samples.download import download_movielens


class Server:
    """Answers a request for a path with `answers[path]`: a body, or a function that writes to the handler."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[str] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}{path}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: object) -> None:
        self.owner = server
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.owner.requests.append(self.path)
        answer = self.owner.answers.get(self.path)
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            answer(self)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in members.items():
            content.writestr(name, data)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            content.writestr(info, target)
    return buffer.getvalue()


GOOD = {"ml-small/": b"", "ml-small/ratings.csv": b"userId\n1\n" * 1000, "ml-small/movies.csv": b"movieId\n"}


def fails(server: Server, tmp_path: Path, body: object, message: str, **limits: float) -> None:
    """The download raises, and leaves nothing inside or beside its folder."""
    server.answers["/ml-small.zip"] = body  # type: ignore[assignment]
    folder = tmp_path / "data"
    with pytest.raises(DataError, match=message):
        download_movielens(folder, url=server.url("/ml-small.zip"), **limits)  # type: ignore[arg-type]
    assert not folder.exists() or list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []


def test_a_good_archive(server: Server, tmp_path: Path) -> None:
    server.answers["/datasets/ml-small.zip"] = archive(GOOD)
    folder = download_movielens(tmp_path / "new" / "data", url=server.url("/datasets/ml-small.zip"))
    assert folder == tmp_path / "new" / "data" / "ml-small"
    assert (folder / "ratings.csv").read_bytes() == GOOD["ml-small/ratings.csv"]
    assert sorted(path.name for path in folder.iterdir()) == ["movies.csv", "ratings.csv"]
    assert [path.name for path in folder.parent.iterdir()] == ["ml-small"]


def test_a_second_call_does_not_download(server: Server, tmp_path: Path) -> None:
    server.answers["/ml-small.zip"] = archive(GOOD)
    first = download_movielens(tmp_path, url=server.url("/ml-small.zip"))
    assert download_movielens(tmp_path, url=server.url("/ml-small.zip")) == first
    assert server.requests == ["/ml-small.zip"]


def test_an_archive_without_a_folder_of_its_own(server: Server, tmp_path: Path) -> None:
    server.answers["/flat.zip"] = archive({"ratings.csv": b"1", "movies.csv": b"2"})
    folder = download_movielens(tmp_path, url=server.url("/flat.zip"))
    assert sorted(path.name for path in folder.iterdir()) == ["movies.csv", "ratings.csv"]


def test_nothing_there(server: Server, tmp_path: Path) -> None:
    fails(server, tmp_path, None, r"download failed .*404.*give its folder")


def test_nobody_answers(tmp_path: Path) -> None:
    server = Server()
    url = server.url("/ml-small.zip")
    server.close()
    with pytest.raises(DataError, match=r"download failed .*Without access to the network"):
        download_movielens(tmp_path, url=url)


def test_a_server_that_says_nothing(server: Server, tmp_path: Path) -> None:
    release = threading.Event()
    fails(server, tmp_path, lambda _: release.wait(20), "download failed .*timed out", timeout=0.2)
    release.set()


def test_a_server_that_never_ends(server: Server, tmp_path: Path) -> None:
    release = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not release.wait(0.01):
            try:
                handler.wfile.write(b"x" * (1 << 16))
            except OSError:
                return

    fails(server, tmp_path, drip, "not complete after the allowed time", deadline=0.3, max_bytes=1 << 40)
    release.set()


def test_larger_than_allowed(server: Server, tmp_path: Path) -> None:
    fails(
        server,
        tmp_path,
        archive({"a": bytes(range(256)) * 40}),
        "larger than the allowed 100 bytes",
        max_bytes=100,
    )


def test_it_unpacks_to_more_than_allowed(server: Server, tmp_path: Path) -> None:
    body = archive({"a/b": b"0" * 600_000, "a/c": b"0" * 600_000})
    assert len(body) < 10_000
    fails(server, tmp_path, body, "unpacks to more than the allowed 1000000 bytes", max_unpacked_bytes=1_000_000)


def test_a_connection_that_breaks(server: Server, tmp_path: Path) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        body = archive(GOOD)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])

    fails(server, tmp_path, half, r"\d+ of \d+ bytes came|IncompleteRead")


def test_not_an_archive(server: Server, tmp_path: Path) -> None:
    fails(server, tmp_path, b"<html>sign in first</html>", "not a usable zip archive")


def test_an_empty_archive(server: Server, tmp_path: Path) -> None:
    fails(server, tmp_path, archive({}), "the archive is empty")


@pytest.mark.parametrize("position", [50, 60, 70, 80])
def test_a_damaged_member(server: Server, tmp_path: Path, position: int) -> None:
    body = bytearray(archive({"ratings.csv": bytes(i * i % 251 for i in range(5000))}))
    body[position] ^= 0xFF
    fails(server, tmp_path, bytes(body), "not a usable zip archive")


@pytest.mark.parametrize("name", ["../evil", "ml/../../evil", "/evil", "..\\evil", "C:evil", "ml/../ratings.csv"])
def test_a_member_that_would_leave_the_folder(server: Server, tmp_path: Path, name: str) -> None:
    fails(server, tmp_path, archive({**GOOD, name: b"x"}), "outside of its folder")


def test_a_link(server: Server, tmp_path: Path) -> None:
    fails(server, tmp_path, archive(GOOD, {"ml-small/link": "/etc/hostname"}), "neither a file nor a folder")


def test_an_encrypted_member(server: Server, tmp_path: Path) -> None:
    body = bytearray(archive({"ratings.csv": b"x" * 100}))
    body[6] |= 1  # the flag in the member's header
    body[body.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    fails(server, tmp_path, bytes(body), "not a usable zip archive .*password")


@pytest.mark.parametrize("url", ["file:///etc/ml-small.zip", "ftp://host/ml-small.zip", "/ml-small.zip"])
def test_only_web_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="only https and http"):
        download_movielens(tmp_path, url=url)
