"""Options of a command line: a parser whose complaints are sentences like every other."""

from __future__ import annotations

import argparse
from typing import NoReturn

from aiprod_studio.errors import BadRequest


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `BadRequest`s."""

    def error(self, message: str) -> NoReturn:
        """Raise `BadRequest` with argparse's complaint as a sentence."""
        raise BadRequest(
            f"{message[:1].upper()}{message[1:]}. Run '{self.prog} --help' to see every option."
        )
