"""Sharing: what visitors find, and that nothing they send gets them more than that."""

from __future__ import annotations

import http.client
import io
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

import aiprod_studio
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.types import Plan, Request
from tests.ui.conftest import Shared

PLAN = Plan("cpu", "float32", 64, 64, 5, 1, 0, {"load": 1}, 1.0, ("a reason",))
META = {"_type": "gradio.FileData"}
MARK = {"path": None}
OUTSIDE = [
    "{home}/studio.db",
    "{home}/visitors/key",
    "{home}/visitors/{other}/session",
    "{home}/uploads/visitors/{other}/{upload}",
    "{home}/uploads/visitors/{own}/../{other}/{upload}",
    "{home}/uploads/visitors/{own}/%2e%2e/{other}/{upload}",
    "studio:/studio.db",
    "studio:/uploads/visitors/{own}/../../../studio.db",
    "studio:/uploads/visitors/{other}/{upload}",
    "studio:/uploads/visitors/{own}/link.png",
    "../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "\\\\server\\share\\a.png",
    "//server/share/a.png",
    "C:\\Windows\\win.ini",
    "http://127.0.0.1:{port}/",
    "",
]


@dataclass
class Visit:
    """A visitor's browser: a cookie, and the name of the page that is open in it."""

    port: int
    cookie: str = ""
    page: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def visitor(self) -> str:
        """The visitor's name, as the folders have it."""
        return self.cookie.partition(".")[0].partition("=")[2]

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Return status, body and headers of an answer; a dictionary is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if self.cookie:
            headers = {"Cookie": self.cookie, **headers}
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **headers}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        told = answer.status, answer.read(), answer.headers
        connection.close()
        return told

    def get(self, path: str) -> int:
        """Return the status of a page."""
        return self.ask("GET", path)[0]

    def sign_in(self, password: str) -> int:
        """Send the login form, keep the cookie and return the status."""
        form = f"user=visitor&password={quote(password)}"
        status, _, headers = self.ask(
            "POST", "/login", form, **{"Content-Type": "application/x-www-form-urlencoded"}
        )
        self.cookie = (headers["Set-Cookie"] or "").partition(";")[0]
        return status

    def upload(self, content: bytes, name: str = "a.png") -> tuple[int, bytes]:
        """Send a file and return the status and the answer."""
        head = (
            '--edge\r\nContent-Disposition: form-data; name="files"; '
            f'filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
        )
        body = head.encode() + content + b"\r\n--edge--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=edge"}
        return self.ask("POST", "/gradio_api/upload", body, **kind)[:2]

    def event(self, block: str, name: str, told: Any = None, **values: Any) -> dict[str, Any]:
        """Return an event as the page sends it; `values` go to the inputs with those labels."""
        config = json.loads(self.ask("GET", "/config")[1])
        parts = {each["id"]: each["props"] for each in config["components"]}
        dependency, target = next(
            (each, target)
            for each in config["dependencies"]
            for target, kind in each["targets"]
            if kind == name and parts.get(target, {}).get("elem_id") == block
        )
        inputs = [parts[each] for each in dependency["inputs"]]
        data = [values.get(each.get("label", ""), each.get("value")) for each in inputs]
        return {
            "data": data,
            "event_data": told,
            "fn_index": dependency["id"],
            "trigger_id": target,
            "session_hash": self.page,
        }

    def send(self, *args: Any, **values: Any) -> tuple[int, str]:
        """Send an event and return the status and all that the page is then told."""
        status, answer, _ = self.ask("POST", "/gradio_api/queue/join", self.event(*args, **values))
        return status, self.listen() if status == 200 else answer.decode()

    def listen(self, events: int = 1) -> str:
        """Return what the page is told until so many of its events are over."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        path = f"/gradio_api/queue/data?session_hash={self.page}"
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer, told = connection.getresponse(), ""
        for line in answer:
            told += line.decode()
            events -= b'"process_completed"' in line
            if not events:
                break
        connection.close()
        return told


def enter(shared: Shared) -> Visit:
    """Return a new visitor who has signed in."""
    visit = Visit(shared.port)
    assert visit.sign_in(shared.password) == 303
    return visit


def jobs_of(shared: Shared, visit: Visit) -> list[tuple[str, str]]:
    """Return the ids and states of a visitor's jobs."""
    queue = Queue(str(shared.owner.home / "studio.db"), visit.visitor)
    found = [(job.id, job.state) for job in queue.jobs()]
    queue.database.close()
    return found


def put_clip(shared: Shared, visit: Visit) -> Path:
    """Return a clip with its settings among those of a visitor."""
    path = shared.owner.home / "outputs" / "visitors" / visit.visitor / "clip.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((5, 32, 48, 3), 90, np.uint8)
    save_clip(path, Clip(frames, 8.0, None, 0), Request("a secret dog"), PLAN)
    return path


def picture() -> bytes:
    """Return a small PNG."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


def render(visit: Visit, steps: int = 200) -> tuple[int, str]:
    """Let a visitor ask for a clip that takes a while."""
    return visit.send("as-render", "click", Prompt="a dog", Size="64x64", Steps=steps)


def test_without_the_password_there_is_a_login_and_nothing_else(shared: Shared) -> None:
    stranger = Visit(shared.port)
    status, page, headers = stranger.ask("GET", "/")
    assert status == 401
    assert b"Sign in" in page
    assert b"gradio" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path in (
        "/config",
        "/gradio_api/info",
        "/gradio_api/file=/etc/passwd",
        "/media/clips/a.mp4",
    ):
        assert stranger.get(path) == 401
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/upload"):
        assert stranger.ask("POST", path, {"data": []})[0] == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(shared: Shared) -> None:
    form = f"password={shared.password}"
    _, _, headers = Visit(shared.port).ask("POST", "/login", form)
    assert re.search("; HttpOnly.*; SameSite=lax", headers["Set-Cookie"])


def test_forged_and_ended_sessions_are_strangers(shared: Shared) -> None:
    visit, other = enter(shared), enter(shared)
    name, _, signature = visit.cookie.partition(".")
    assert visit.get("/config") == 200
    foreign = other.cookie.partition(".")[2]
    for cookie in (name, f"{name}.{foreign}", f"{name}.{signature[:-1]}x", "aiprod-visitor=key."):
        assert Visit(shared.port, cookie).get("/config") == 401
    kept = visit.cookie
    assert visit.ask("POST", "/logout")[0] == 303
    assert Visit(shared.port, kept).get("/config") == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "192.0.2.7"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
    ],
)
def test_foreign_pages_are_refused_even_with_the_cookie(
    shared: Shared, headers: dict[str, str]
) -> None:
    visit = enter(shared)
    assert visit.ask("GET", "/config", **headers)[0] == 403
    assert visit.ask("POST", "/login", f"password={shared.password}", **headers)[0] == 403


def test_the_page_shows_neither_the_machine_nor_its_folders(shared: Shared) -> None:
    visit = enter(shared)
    page = visit.ask("GET", "/")[1] + visit.ask("GET", "/config")[1]
    for secret in (shared.owner.home, Path.home(), Path(aiprod_studio.__file__).parent):
        assert f"{secret}/".encode() not in page
    config = json.loads(visit.ask("GET", "/config")[1])
    tabs = [each["props"]["label"] for each in config["components"] if each["type"] == "tabitem"]
    assert tabs == ["Create", "Library"]
    labels = {each["props"].get("label") for each in config["components"]}
    assert "Export to this folder" not in labels


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/info?all_endpoints=true",
        "/gradio_api/openapi.json",
        "/openapi.json",
        "/docs",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/deep_link?session_hash=a",
        "/?deep_link=abc",
        "/config?deep_link=abc",
        "/monitoring",
        "/gradio_api/queue/status",
        "/gradio_api/token",
        "/gradio_api/runs",
        "/gradio_api/custom_component/a/client/b/c",
        "/gradio_api/stream/a/b/c/playlist-file",
        "/gradio_api/vibe-code",
    ],
)
def test_what_gradio_offers_beyond_the_page_is_closed(shared: Shared, path: str) -> None:
    visit = enter(shared)
    assert visit.get(path) == 404
    assert visit.ask("POST", path, {"data": [], "session_hash": "a"})[0] == 404


def test_no_file_parameter_leads_outside(shared: Shared) -> None:
    visit, other = enter(shared), enter(shared)
    uploads = shared.owner.home / "uploads" / "visitors"
    status, answer = other.upload(picture())
    assert status == 200
    [foreign] = json.loads(answer)
    assert foreign.startswith(f"studio:/uploads/visitors/{other.visitor}/")
    assert other.ask("GET", f"/gradio_api/file={foreign}")[1] == picture()
    [own] = json.loads(visit.upload(picture())[1])
    (uploads / visit.visitor / "link.png").symlink_to(shared.owner.home / "studio.db")
    render = visit.event("as-render", "click", Prompt="a dog", **{"First picture": MARK})
    drop = visit.event("as-board", "upload")
    for text in OUTSIDE:
        path = text.format(
            home=shared.owner.home,
            own=visit.visitor,
            other=other.visitor,
            upload=foreign.partition(f"{other.visitor}/")[2],
            port=shared.owner.port,
        )
        for start in ("/gradio_api/file=", "/media/clips/", "/media/small/", "/media/x/"):
            assert visit.get(f"{start}{quote(path, safe='/%')}") == 404, path
            assert visit.get(f"{start}{quote(path, safe='')}") == 404, path
        given = {"path": path, "url": None, "meta": META}
        for sent in (
            {**render, "data": [given if value is MARK else value for value in render["data"]]},
            {**drop, "event_data": {"path": path}},
            {**drop, "data": [[{"path": [path]}]]},
        ):
            assert visit.ask("POST", "/gradio_api/queue/join", sent)[0] == 404, path
            assert visit.ask("POST", "/gradio_api/run/predict", sent)[0] == 404, path
    assert jobs_of(shared, visit) == []
    assert visit.ask("GET", f"/gradio_api/file={own}")[1] == picture()


@pytest.mark.parametrize("name", ["../../a.png", "/etc/a.png", "C:\\\\a.png", "..%2f..%2fa.png"])
def test_a_name_does_not_choose_where_an_upload_lies(shared: Shared, name: str) -> None:
    visit = enter(shared)
    status, answer = visit.upload(picture(), name)
    assert status == 200
    place = re.escape(f"studio:/uploads/visitors/{visit.visitor}/")
    assert re.fullmatch(place + r"[0-9a-f]{16}/file\.png", json.loads(answer)[0])


def test_an_oversized_upload_is_refused_while_it_is_read(shared: Shared) -> None:
    visit = enter(shared)
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=20)
    connection.putrequest("POST", "/gradio_api/upload")
    kind = "multipart/form-data; boundary=edge"
    for name, value in (("Cookie", visit.cookie), ("Content-Type", kind)):
        connection.putheader(name, value)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    head = '--edge\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    for part in (head.encode(), b"0" * 200_000):
        connection.send(b"%x\r\n%s\r\n" % (len(part), part))
    # It never ends, and is answered all the same.
    assert connection.getresponse().status == 413
    connection.close()
    declared = {"Content-Length": "10000000", "Content-Type": kind}
    assert visit.ask("POST", "/gradio_api/upload", b"", **declared)[0] == 413
    assert visit.upload(b"0" * 110_000)[0] == 413
    assert visit.ask("POST", "/gradio_api/queue/join", {"data": ["0" * 300_000]})[0] == 413
    assert visit.ask("POST", "/login", "password=" + "0" * 5000)[0] == 413
    assert not (shared.owner.home / "uploads" / "visitors" / visit.visitor).exists()
    assert visit.upload(b"0" * 90_000)[0] == 200


@pytest.mark.parametrize("body", ["", "nothing", "[]", '{"data": []}', "[" * 100_000])
def test_what_is_no_event_is_refused(shared: Shared, body: str) -> None:
    assert enter(shared).ask("POST", "/gradio_api/queue/join", body)[0] == 404


def test_a_hundred_submissions_at_once_fill_the_queue_and_no_more(shared: Shared) -> None:
    visit = enter(shared)
    event = visit.event("as-render", "click", Prompt="a dog", Size="64x64", Steps=200)

    def submit() -> None:
        visit.ask("POST", "/gradio_api/queue/join", event)

    threads = [threading.Thread(target=submit) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = visit.listen(100)
    states = [state for _, state in jobs_of(shared, visit)]
    assert len(states) == 5
    assert set(states) <= {"queued", "running"}
    assert told.count("no more may wait") == 95
    visit.ask("POST", "/logout")
    assert {state for _, state in jobs_of(shared, visit)} <= {"running", "cancelled"}


def test_nobody_reaches_anothers_jobs_by_events(shared: Shared) -> None:
    visit, other = enter(shared), enter(shared)
    assert render(visit)[0] == 200
    [(job, _)] = jobs_of(shared, visit)
    for do in ("cancel", "pause", "retry", "forget", "first", "again", "final", "reuse"):
        status, told = other.send("as-board", "select", {"do": do, "id": job})
        assert status == 200
        assert "That did not work" in told, do
        assert "a dog" not in told
    [(same, state)] = jobs_of(shared, visit)
    assert (same, state in ("queued", "running")) == (job, True)
    assert jobs_of(shared, other) == []
    assert (
        "That did not work" not in visit.send("as-board", "select", {"do": "cancel", "id": job})[1]
    )


def test_nobody_reaches_anothers_clips(shared: Shared) -> None:
    visit, other = enter(shared), enter(shared)
    clip = put_clip(shared, visit)
    address = f"/media/clips/visitors/{visit.visitor}/clip.mp4"
    assert visit.ask("GET", address)[1] == clip.read_bytes()
    status, part, headers = visit.ask("GET", address, Range="bytes=0-3")
    assert (status, part) == (206, clip.read_bytes()[:4])
    assert headers["Content-Type"] == "video/mp4"
    assert other.get(address) == 404
    for name in ("clip.mp4", f"../{visit.visitor}/clip.mp4", str(clip)):
        for block, do in (("as-shelf", "open"), ("as-panel", "reuse"), ("as-panel", "discard")):
            told = other.send(block, "select", {"do": do, "id": name})[1]
            assert "That did not work" in told
            assert "a secret dog" not in told
    assert clip.exists()
    owner = http.client.HTTPConnection("127.0.0.1", shared.owner.port, timeout=20)
    owner.request("GET", address)
    assert owner.getresponse().read() == clip.read_bytes()
    owner.close()


def test_a_picture_comes_back_to_its_visitor_alone(shared: Shared) -> None:
    visit, other = enter(shared), enter(shared)
    [own] = json.loads(visit.upload(picture())[1])
    wishes = {"Start from": "picture", "First picture": {"path": own, "meta": META}}
    assert visit.send("as-render", "click", Prompt="a dog", Size="64x64", **wishes)[0] == 200
    [(job, _)] = jobs_of(shared, visit)
    told = visit.send("as-board", "select", {"do": "reuse", "id": job})[1]
    [shown] = set(re.findall(r'"(studio:/uploads/[^"]+)"', told))
    assert str(shared.owner.home) not in told
    assert visit.ask("GET", f"/gradio_api/file={shown}")[1] == picture()
    assert other.get(f"/gradio_api/file={shown}") == 404
    visit.ask("POST", "/logout")


def test_nobody_reads_along_on_anothers_page(shared: Shared) -> None:
    visit, other = enter(shared), enter(shared)
    render(visit, steps=1)
    for path in ("queue/data?session_hash=", "heartbeat/"):
        assert other.get(f"/gradio_api/{path}{visit.page}") == 404
    other.page = visit.page
    event = other.event("as-render", "click", Prompt="a cat")
    assert other.ask("POST", "/gradio_api/queue/join", event)[0] == 404


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"Size": "1600x64"}, "pixels a side"),
        ({"Steps": 9999}, "did not work"),
        ({"LoRAs": "/etc/passwd"}, "shares no LoRAs"),
    ],
)
def test_what_the_limits_do_not_allow_is_refused(
    shared: Shared, wishes: dict[str, Any], said: str
) -> None:
    visit = enter(shared)
    assert said in visit.send("as-render", "click", Prompt="a dog", **wishes)[1]
    assert jobs_of(shared, visit) == []


def test_wrong_passwords_lock_out_and_the_lock_opens(shared: Shared) -> None:
    stranger = Visit(shared.port)
    results: list[int] = []

    def guess() -> None:
        results.append(Visit(shared.port).sign_in("wrong"))

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [401] * 3 + [429] * 7
    status, page, headers = stranger.ask("POST", "/login", f"password={shared.password}")
    assert status == 429
    assert b"too many wrong tries" in page
    time.sleep(int(headers["Retry-After"]))
    assert stranger.sign_in(shared.password) == 303
    assert stranger.get("/config") == 200


def test_the_password_is_kept_nowhere(shared: Shared) -> None:
    told = shared.password.encode()
    found = [
        file
        for file in shared.owner.home.rglob("*")
        if file.is_file() and told in file.read_bytes()
    ]
    assert found == []
