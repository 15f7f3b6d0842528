"""The folder on this disk from which an engine loads."""

from __future__ import annotations

from pathlib import Path

from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub.errors import NotDownloaded
from aiprod_studio.engines.hub.source import Source, Variant, find_source
from aiprod_studio.engines.hub.survey import local_survey, this_hub
from aiprod_studio.errors import BadRequest

INDEX = "model_index.json"


def find_folder(engine: str, task: str) -> Path:
    """Return the folder of an engine's weights for a task: of the first variant that is whole.

    Raises `TermsNotAccepted`, `NotDownloaded` with the command that downloads them, and
    `BadRequest` when none of its variants can do the task.
    """
    source = find_source(engine)
    licences.require(source)
    able = [one for one in source.variants if task in one.tasks]
    # Of a model in diffusers' layout a file that is all of it in one cannot be loaded.
    able = [one for one in able if INDEX in one.files] or able
    if not able:
        raise BadRequest(f"{source.name} cannot do {task!r}. Choose another engine.")
    for variant in able:
        found = local_survey(source, variant, this_hub())
        if found is not None and found.complete:
            return found.folder
    raise NotDownloaded(
        f"The weights of {source.name} are not on this disk. Run '{_command(source, able[0])}' "
        "first."
    )


def _command(source: Source, variant: Variant) -> str:
    """Return the command that downloads a variant."""
    command = f"aiprod-studio models download {source.engine}"
    return command if variant == source.variant() else f"{command} --variant {variant.name}"
