"""Limits: what one visitor of a shared studio may ask for, read from `sharing.toml`."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiprod_studio.engines.catalog import find_card, listed_card
from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.graph.extend import continued, whole_seconds
from aiprod_studio.sentences import Said
from aiprod_studio.types import FILES, Request, complete

FILE = "sharing.toml"
"""The file of the limits in the studio's data folder; it need not be there."""

_MOST = "This studio is shared for clips of at most {limit:g} "
_MOST_SIDE = _MOST + "pixels a side. Choose a smaller size."
_MOST_SECONDS = _MOST + "seconds. Choose a shorter length."
_MOST_STEPS = _MOST + "steps. Choose fewer of them."


@dataclass(frozen=True)
class Limits:
    """The limits of each visitor, and how many may be signed in.

    `side` is in pixels, `seconds` and `steps` are of one clip, `jobs` wait or run at once,
    `upload_mb` is one file and `uploads_mb` all of a day. After `tries` wrong passwords from one
    address (ten times as many from all together) the login pauses for `pause` seconds, then for
    twice as long, and so on.
    """

    side: int = 1280
    seconds: float = 10.0
    steps: int = 60
    jobs: int = 10
    upload_mb: float = 20.0
    uploads_mb: float = 200.0
    visitors: int = 20
    tries: int = 5
    pause: float = 30.0

    def check(self, request: Request, pictures: Path) -> None:
        """Raise `BadRequest` unless the request is within the limits.

        The picture or clip that it begins with must lie in the folder `pictures`.
        """
        self._check_file(request, pictures)
        self.check_own(request)
        full = complete(continued(request), find_card(request.engine))
        assert full.width is not None
        assert full.height is not None
        most = (
            (max(full.width, full.height), self.side, "said.most_side", _MOST_SIDE),
            (whole_seconds(full), self.seconds, "said.most_seconds", _MOST_SECONDS),
            (full.steps, self.steps, "said.most_steps", _MOST_STEPS),
        )
        for asked, limit, key, told in most:
            if asked is not None and asked > limit:
                raise BadRequest(Said(key, told, limit=limit))

    def check_own(self, request: Request) -> None:
        """Raise `BadRequest` for LoRAs, and for engines that the studio does not list.

        Even a plan would look at the files and repositories that they name, as the owner.
        """
        listed_card(request.engine)
        if request.loras:
            told = "This studio shares no LoRAs. Leave them out."
            raise BadRequest(Said("said.no_loras", told))

    def _check_file(self, request: Request, pictures: Path) -> None:
        told = "{what} is not one of yours. Add it once more."
        for name in sorted(FILES):
            file = getattr(request, name)
            if file is not None:
                known = Path(file).resolve().parent == pictures.resolve() and Path(file).is_file()
                if not known:
                    what = Said(f"field.{name}", f"The {name.replace('_', ' ')}")
                    raise BadRequest(Said("said.not_yours", told, what=what))


def read_limits(home: Path) -> Limits:
    """Return the limits; raises `StudioError` when their file in the folder `home` is wrong."""
    file = home / FILE
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Limits()
    except (OSError, ValueError) as error:
        raise StudioError(f"{file} cannot be read ({error}). Correct it or delete it.") from error
    known = {each.name for each in dataclasses.fields(Limits)}
    for name, value in values.items():
        if name not in known:
            raise StudioError(
                f"{file} sets {name!r}, which is no limit. Known are: {', '.join(sorted(known))}."
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise StudioError(f"{name} in {file} is {value!r}. Give a number above 0.")
    return Limits(**values)
