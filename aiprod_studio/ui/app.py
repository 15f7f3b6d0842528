"""The app: serves the page on this machine, one for visitors too, and keeps a worker beside it."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import gradio as gr
from starlette.middleware import Middleware

from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.jobs.worker import let_go
from aiprod_studio.library.gallery import Gallery
from aiprod_studio.report import write_line
from aiprod_studio.settings import settings
from aiprod_studio.ui.api import publish
from aiprod_studio.ui.bench import Bench, Page, html_block
from aiprod_studio.ui.board import prune
from aiprod_studio.ui.cards import NAME, draw_head
from aiprod_studio.ui.gate import Door, Gate, keep_password
from aiprod_studio.ui.guard import Guard
from aiprod_studio.ui.limits import read_limits
from aiprod_studio.ui.lockout import Lockout
from aiprod_studio.ui.login import draw_leave
from aiprod_studio.ui.machine import Machine
from aiprod_studio.ui.media import media_route
from aiprod_studio.ui.porch import HOST, Porch, own_texts
from aiprod_studio.ui.renderer import Renderer
from aiprod_studio.ui.share import SHARED_TABS, Sharing, announce
from aiprod_studio.ui.tabs import TABS
from aiprod_studio.ui.theme import build_head, build_theme
from aiprod_studio.ui.tongues import VisitorTexts
from aiprod_studio.ui.veil import Veil
from aiprod_studio.ui.visitors import FOLDER, Visitors
from aiprod_studio.ui.wording import Worded

log = logging.getLogger("aiprod_studio")

CODE = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "aiprod_studio", "worker")
LOG_BYTES = 2 * 2**20
DAY_SECONDS = 86_400
SILENT_SECONDS = 60.0


def open_studio(porch: Porch, sharing: Sharing | None = None) -> int:
    """Serve the page in the place of the light one until told to stop; returns the exit code.

    With `sharing` visitors get a page of their own, on the next free port. Raises `StudioError`
    when a port, a folder or the shared link cannot be had.
    """
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), end)
    with open_bench() as bench, ExitStack() as served:
        page = Service(HOST, porch.leave, (Middleware(Guard),), bench.home / "pictures")
        served.enter_context(serve(bench, page))
        write_line(bench.say("app.open", address=porch.address))
        if sharing is not None:
            _share(bench, sharing, (urlsplit(porch.address).port or 0) + 1, served)
        bench.machine.start()
        bench.renderer.start()
        threading.Thread(target=_tidy, args=(bench,), name="tidy", daemon=True).start()
        while not stop.wait(1.0):
            pass
    return 0


def _share(bench: Bench, sharing: Sharing, port: int, served: ExitStack) -> None:
    """Serve the visitors' page, from `port` on, until `served` ends, and say where it is."""
    bench = dataclasses.replace(bench, say=VisitorTexts(bench.say))
    limits = read_limits(bench.home)
    visitors = Visitors(bench, limits)
    served.callback(visitors.close)
    shared = dataclasses.replace(bench, guests=visitors.bench, limits=limits)
    hosts, secret = sharing.hosts(), sharing.secret()
    door = Door(
        visitors,
        keep_password(secret.user, secret.password),
        Lockout(limits.tries, limits.pause),
        Veil(bench.home, {bench.gallery.outputs: "clips:", CODE: "app:", Path.home(): "~"}),
        bench.say,
        secure=sharing.host is None,
    )
    guards = (Middleware(Guard, hosts=hosts), Middleware(Gate, door=door))
    port = sharing.free_port(port)
    bypass_proxy(sharing.bound.strip("[]"))
    service = Service(sharing.bound, lambda: port, guards, bench.uploads / FOLDER)
    served.enter_context(serve(shared, service))
    for line in announce(sharing.address(port, hosts), secret, bench.say):
        write_line(line)


@contextmanager
def open_bench() -> Iterator[Bench]:
    """Yield all that the tabs work with; the worker ends with it."""
    home = settings().home
    keep_quiet()
    write_log()
    queue = Queue(settings().database)
    gallery = Gallery(settings().outputs, home)
    renderer = Renderer(WORKER, settings().logs / "worker.log")
    try:
        yield Bench(queue, gallery, Machine(home / "machine.json"), renderer, own_texts())
    finally:
        renderer.close()
        let_go(queue)
        gallery.close()
        queue.database.close()


def keep_quiet() -> None:
    """Switch off whatever would call home, and keep uploads in the studio's own folder."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(settings().home / "uploads")
    bypass_proxy(HOST, "localhost")


def bypass_proxy(*hosts: str) -> None:
    """Let no proxy of the system come between the page and its own machine."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), *hosts)))


def write_log() -> None:
    """Let the page's warnings and tracebacks go to studio.log; raises `StudioError`."""
    file = settings().logs / "studio.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise StudioError(
            f"The log {file} cannot be written ({error.strerror}). Check the folder's permissions, "
            "or set AIPROD_HOME to a folder of your own."
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False


def build_page(bench: Bench) -> gr.Blocks:
    """Return the page with all its tabs, or with those that visitors may see."""
    say = bench.say
    with Worded(
        say,
        lambda: build_page(bench),
        title=NAME,
        analytics_enabled=False,
        delete_cache=(DAY_SECONDS, DAY_SECONDS),
    ) as blocks:
        head = html_block("as-head", draw_head(False, bench.machine.hardware, say))
        if bench.limits is not None:
            html_block("as-visitor", draw_leave(bench.limits, say))
        with gr.Tabs(elem_id="as-tabs") as tabs:
            page = Page(blocks, tabs, head)
            for name, build in TABS.items():
                if bench.shared and name not in SHARED_TABS:
                    continue
                with gr.Tab(say(f"tab.{name}"), id=name) as page.tab:
                    build(bench, page)
        publish(bench)
    # Two tabs of one person must not wait for each other.
    return blocks.queue(default_concurrency_limit=4, api_open=False)


@dataclass(frozen=True)
class Service:
    """How a page is served: on which address and port, guarded by what, with which pictures.

    The port is asked for when all else is ready.
    """

    host: str
    port: Callable[[], int]
    guards: tuple[Middleware, ...]
    pictures: Path


@contextmanager
def serve(bench: Bench, service: Service) -> Iterator[None]:
    """Serve a page until the block ends; raises `StudioError`."""
    blocks, port = build_page(bench), service.port()
    try:
        blocks.launch(
            server_name=service.host,
            server_port=port,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            allowed_paths=[str(service.pictures)],
            blocked_paths=[str(bench.gallery.trash.folder)],
            max_file_size="500mb",
            favicon_path=settings().assets / "icon.png",
            theme=build_theme(),
            head=build_head(bench.say),
            app_kwargs={
                "middleware": list(service.guards),
                "routes": [media_route(bench)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
    except OSError as error:
        raise StudioError(
            f"The port {port} is in use. Close the program that uses it, or choose another one "
            "with --port."
        ) from error
    try:
        yield
    finally:
        # An open tab keeps a connection for its events, which would hold up the end; the
        # server takes that for an error and would print it.
        logging.getLogger("uvicorn.error").disabled = True
        blocks.server.force_exit = True
        blocks.close(verbose=False)


def drop_partial(uploads: Path) -> None:
    """Delete the uploads that ended before they were whole; one that still comes is written to.

    Gradio gives whole ones a folder, and leaves the others where it began them.
    """
    for path in uploads.glob("tmp*"):
        with suppress(OSError):  # another studio may be faster
            if path.is_file() and path.stat().st_mtime < time.time() - SILENT_SECONDS:
                path.unlink()


def _tidy(bench: Bench) -> None:
    """Forget old jobs, uploads that broke off, and read what is new, beside everything else."""
    drop_partial(bench.uploads)
    try:
        prune(bench.queue)
        bench.gallery.scan()
    except StudioError as error:
        log.warning("%s", error)
