"""What a person chose for every download: the folder of the weights, and a token for the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import constants

from aiprod_studio.errors import BadRequest
from aiprod_studio.media.files import replacing, write_bytes
from aiprod_studio.settings import settings


def chosen_folder() -> Path | None:
    """Return the cache folder that was chosen, or None for the Hub's usual one."""
    try:
        text = _note().read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return Path(text) if text else None


def choose_folder(folder: str) -> None:
    """Keep weights in `folder` from now on; empty means the Hub's usual one.

    The home of a Hub (what HF_HOME names) stands for the cache inside it. Nothing is moved.
    Raises `BadRequest` for half a path, and as `write_bytes` where nothing can be written.
    """
    if not folder.strip():
        _note().unlink(missing_ok=True)
        return
    path = Path(folder.strip()).expanduser()
    if not path.is_absolute():
        raise BadRequest(f"{path} is half a path. Write the folder's whole path, from the root on.")
    if (path / "hub").is_dir() and not any(path.glob("models--*")):
        path /= "hub"
    trial = path / ".aiprod"
    write_bytes(trial)
    trial.unlink()
    write_bytes(_note(), str(path).encode())


def keep_token(token: str) -> None:
    """Keep a token where all programs of the Hub look for it, readable by this person alone.

    Raises `BadRequest` where HF_TOKEN holds another one, which would win, and as `replacing`.
    """
    if _of_environment():
        raise BadRequest("HF_TOKEN already holds a token. Change it there, or unset it first.")
    with replacing(Path(constants.HF_TOKEN_PATH)) as temporary:
        temporary.chmod(0o600)
        temporary.write_text(token, encoding="utf-8")


def forget_token() -> None:
    """Remove the token that is kept; raises `BadRequest` for one in HF_TOKEN."""
    if _of_environment():
        raise BadRequest("The token is in HF_TOKEN. Unset it there and start the studio again.")
    Path(constants.HF_TOKEN_PATH).unlink(missing_ok=True)


def _of_environment() -> bool:
    return any(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))


def _note() -> Path:
    return settings().home / "models" / "folder.txt"
