"""The renderer: the worker process, started with the page, and again whenever it dies."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

LOG_BYTES = 2 * 2**20
QUICK_DEATH_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 60.0
GOODBYE_SECONDS = 10.0


class Renderer:
    """A process that is kept alive between `start` and `close`; it writes to the file `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="renderer", daemon=True)

    @property
    def runs(self) -> bool:
        """Whether the process is there at the moment."""
        process = self._process
        return process is not None and process.poll() is None

    def start(self) -> None:
        """Start the process and watch it."""
        self._thread.start()

    def close(self) -> None:
        """End the process; what it renders goes back to the queue, with what is done so far."""
        self._over.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(GOODBYE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        """Start the process again each time it ends; ever later while it dies at once."""
        pause = 1.0
        while not self._over.is_set():
            began = time.monotonic()
            code = self._run()
            if self._over.is_set():
                return
            quick = time.monotonic() - began < QUICK_DEATH_SECONDS
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS) if quick else 1.0
            log.warning("the worker ended with %s; it is started again in %.0f s", code, pause)
            self._over.wait(pause)

    def _run(self) -> int | str:
        """Run the process once and return its exit code, or why there was none."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".old.log"))
            with self.log.open("ab") as file:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=file, stderr=file
                )
        except OSError as error:
            return str(error)
        if self._over.is_set():
            self._process.terminate()
        return self._process.wait()
