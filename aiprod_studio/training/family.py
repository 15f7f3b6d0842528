"""The family's networks, untrained, at the size that a curriculum asks for."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import torch

from aiprod_studio.engines.bundle import KINDS, Networks
from aiprod_studio.errors import BadRequest
from aiprod_studio.models.sketches import SketcherConfig
from aiprod_studio.models.text_encoder import TextEncoderConfig
from aiprod_studio.settings import settings
from aiprod_studio.training.concepts import FIGURES, codebook, concept_table, concepts_of, kinds
from aiprod_studio.training.curriculum import Curriculum
from aiprod_studio.training.lexicon import known_hints, known_names


def build_networks(curriculum: Curriculum) -> Networks:
    """Return untrained networks of the family's size, with the curriculum's changes.

    Raises `BadRequest` for changes that fit no network, or not to each other.
    """
    terms = tomllib.loads((settings().assets / "video_terms.toml").read_text("utf-8"))
    words = [term for table in terms.values() for term in table["terms"]]
    family = curriculum.family
    told = {
        "text_encoder": dataclasses.replace(
            getattr(TextEncoderConfig, family)(words),
            choices=tuple(len(concept_table(kind, 1)) for kind in kinds()),
            names=known_names(),
            hints=_hints(),
            figures=tuple(kinds().index(kind) for kind in FIGURES[1:]),
            relation=kinds().index("relations"),
        ),
        "sketcher": dataclasses.replace(
            getattr(SketcherConfig, family)(),
            figures=tuple(kinds().index(kind) for kind in FIGURES),
            style=kinds().index("styles"),
        ),
    }
    built: dict[str, Any] = {}
    # The text encoder comes first, as others are as wide as what it writes.
    for name in sorted(KINDS, key=lambda name: name != "text_encoder"):
        kind, config_kind = KINDS[name]
        config = told[name] if name in told else getattr(config_kind, family)()
        changes = curriculum.changes.get(name, {})
        plain = {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
        if name in ("layout", "sketcher"):  # they read what the text encoder writes
            plain = {"text_width": built["text_encoder"].config.out_width, **plain}
        if name == "layout":
            plain = {"registers": built["text_encoder"].config.registers, **plain}
        torch.manual_seed(0)
        try:
            built[name] = kind(dataclasses.replace(config, **plain))
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadRequest(
                f"The curriculum's changes to {name} do not fit ({error}). Correct them."
            ) from error
    networks = Networks(**built)
    encoder = networks.text_encoder
    encoder.codebook.copy_(codebook(encoder.config.out_width))
    ends = networks.backbone.config
    written = (networks.video_vae.config.latent_channels, networks.audio_vae.config.latent_channels)
    if (ends.video_channels, ends.audio_channels) != written or (
        ends.text_width != networks.text_encoder.config.out_width
    ):
        raise BadRequest(
            "The backbone's channels or text width differ from what the other networks write. "
            "Change both in the curriculum."
        )
    return networks


def _hints() -> tuple[tuple[int, int, tuple[str, ...]], ...]:
    """Return what tells a relation, a size or a number, by register and row of its choices."""
    rows = {
        (kind, concept.id): (register, row)
        for register, kind in enumerate(kinds())
        for row, concept in enumerate(concepts_of(kind))
    }
    return tuple(sorted((*rows[told], words) for told, words in known_hints().items()))
