"""The app: opens the page on this machine alone, and keeps a worker beside it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from types import FrameType

import gradio as gr
from starlette.middleware import Middleware

from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.gallery import Gallery
from aiprod_studio.settings import settings
from aiprod_studio.ui.bench import Bench, Page, html_block
from aiprod_studio.ui.board import prune
from aiprod_studio.ui.cards import NAME, draw_head
from aiprod_studio.ui.guard import Guard
from aiprod_studio.ui.machine import Machine
from aiprod_studio.ui.prefs import load_prefs
from aiprod_studio.ui.renderer import Renderer
from aiprod_studio.ui.tabs import TABS
from aiprod_studio.ui.texts import Texts, choose_language
from aiprod_studio.ui.theme import build_head, build_theme

log = logging.getLogger("aiprod_studio")

HOST = "127.0.0.1"
WORKER = (sys.executable, "-m", "aiprod_studio", "worker")
LOG_BYTES = 2 * 2**20
DAY_SECONDS = 86_400


def open_studio(port: int | None = None, browser: bool = True) -> int:
    """Serve the page until the process is told to stop; returns the exit code.

    Without a `port` the first free one from 7860 on is taken. Raises `StudioError` when the port
    or a folder cannot be used.
    """
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), end)
    with open_bench() as bench:
        blocks = build_page(bench)
        address = serve(blocks, bench, port)
        sys.stdout.write(f"{bench.say('app.open', address=address)}\n")
        sys.stdout.flush()
        bench.machine.start()
        bench.renderer.start()
        if browser:
            webbrowser.open(address)
        threading.Thread(target=_tidy, args=(bench,), name="tidy", daemon=True).start()
        try:
            while not stop.wait(1.0):
                pass
        finally:
            # An open tab keeps a connection for its events, which would hold up the end; the
            # server takes that for an error and would print it.
            logging.getLogger("uvicorn.error").disabled = True
            blocks.server.force_exit = True
            blocks.close(verbose=False)
    return 0


@contextmanager
def open_bench() -> Iterator[Bench]:
    """Yield all that the tabs work with; the worker ends with it."""
    home = settings().home
    keep_quiet()
    write_log()
    queue = Queue(settings().database)
    gallery = Gallery(settings().outputs, home)
    renderer = Renderer(WORKER, settings().logs / "worker.log")
    say = Texts(choose_language(load_prefs().language))
    try:
        yield Bench(queue, gallery, Machine(home / "machine.json"), renderer, say)
    finally:
        renderer.close()
        gallery.close()
        queue.database.close()


def keep_quiet() -> None:
    """Switch off whatever would call home, and keep uploads in the studio's own folder."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(settings().home / "uploads")
    # A proxy of the system must not come between the page and its own machine.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST, "localhost")))


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
    """Return the page with all its tabs."""
    say = bench.say
    with gr.Blocks(
        title=NAME, analytics_enabled=False, delete_cache=(DAY_SECONDS, DAY_SECONDS)
    ) as blocks:
        head = html_block("as-head", draw_head(False, bench.machine.hardware, say))
        with gr.Tabs(elem_id="as-tabs") as tabs:
            page = Page(blocks, tabs, head)
            for name, build in TABS.items():
                with gr.Tab(say(f"tab.{name}"), id=name) as page.tab:
                    build(bench, page)
    # Two tabs of one person must not wait for each other.
    return blocks.queue(default_concurrency_limit=4)


def serve(blocks: gr.Blocks, bench: Bench, port: int | None) -> str:
    """Serve the page to this machine alone and return its address; raises `StudioError`."""
    folders = (bench.gallery.outputs, bench.gallery.thumbnails, settings().home / "pictures")
    try:
        _, address, _ = blocks.launch(
            server_name=HOST,
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
            allowed_paths=[str(folder) for folder in folders],
            blocked_paths=[str(bench.gallery.trash.folder)],
            max_file_size="500mb",
            favicon_path=settings().assets / "icon.png",
            theme=build_theme(),
            head=build_head(bench.say),
            app_kwargs={
                "middleware": [Middleware(Guard)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
    except OSError as error:
        raise StudioError(
            f"The port {port or 'from 7860 to 7959'} is in use. Close the program that uses it, or "
            "choose another one with --port."
        ) from error
    return str(address)


def _tidy(bench: Bench) -> None:
    """Forget old jobs and read what is new in the outputs, beside everything else."""
    try:
        prune(bench.queue)
        bench.gallery.scan()
    except StudioError as error:
        log.warning("%s", error)
