"""The trash: a hidden folder below the outputs, from which every clip can come back."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

from aiprod_studio.errors import BadRequest
from aiprod_studio.media.files import explain

FOLDER = ".trash"


class Trash:
    """What was thrown away from the folder `outputs`; each clip lies under a token of its own."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.folder = outputs / FOLDER

    def put(self, path: Path) -> str:
        """Move a file below the outputs into the trash and return its token."""
        token = f"{int(time.time())}-{secrets.token_hex(4)}"
        target = self.folder / token / path.relative_to(self.outputs)
        try:
            target.parent.mkdir(parents=True)
            path.rename(target)
        except OSError as error:
            raise explain(error, path) from error
        return token

    def take(self, token: str) -> Path:
        """Move a file back to where it was and return its path; numbered if the name is taken."""
        held = self._held(token)
        wanted = self.outputs / held.relative_to(self.folder / token)
        path, number = wanted, 2
        while path.exists():
            path = wanted.with_stem(f"{wanted.stem}-{number}")
            number += 1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.rename(path)
            for folder in (*held.relative_to(self.folder).parents[:-1],):
                (self.folder / folder).rmdir()
        except OSError as error:
            raise explain(error, path) from error
        return path

    def tokens(self) -> list[str]:
        """Return the tokens of what lies in the trash, the latest first."""
        if not self.folder.is_dir():
            return []
        return sorted((entry.name for entry in self.folder.iterdir()), reverse=True)

    def empty(self) -> None:
        """Delete for good what lies in the trash."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _held(self, token: str) -> Path:
        """Return the file under a token; raises `BadRequest` when it is gone."""
        if token in self.tokens():
            for path in (self.folder / token).rglob("*"):
                if path.is_file():
                    return path
        raise BadRequest("This clip is not in the trash any more. Reload the library.")
