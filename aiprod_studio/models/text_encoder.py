"""The text encoder: the characters of a prompt in any script to features and a pooled vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.models import tokens as written
from aiprod_studio.models.tokens import FIRST_CHARACTER, MARK, PADDING, Vocabulary

SURE = 0.5  # what is not named, but guessed, must be as likely as this to be a further figure
NAMED = 12.0  # what a row's score gains where the prompt has its name; a sure one has about 16


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes, the video terms that are tokens of their own, and the names of each known thing.

    `choices` are the rows of the codebook among which each register, from the first on, chooses.
    What names name stands in the order of these rows, so far as they go; `hints` are names of
    further ones, by register and row. The registers of `figures` choose a second, a third, … of
    what the first one chooses, among names where there are that many. The register `relation`
    says how the second one stands to the first; there may be none.
    """

    width: int = 192
    out_width: int = 256
    layers: int = 4
    heads: int = 8
    registers: int = 12
    buckets: int = 1024
    longest: int = 320
    terms: tuple[str, ...] = ()
    choices: tuple[int, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()
    hints: tuple[tuple[int, int, tuple[str, ...]], ...] = ()
    figures: tuple[int, ...] = ()
    relation: int | None = None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The terms and names, as the tokeniser looks them up."""
        return Vocabulary(self.terms, (*self.names, *(words for _, _, words in self.hints)))

    @classmethod
    def starter(cls, terms: Sequence[str] = ()) -> TextEncoderConfig:
        """Return the size that a laptop's processor runs."""
        return cls(terms=tuple(terms))

    @classmethod
    def base(cls, terms: Sequence[str] = ()) -> TextEncoderConfig:
        """Return the specification's size: 4 layers, 8 heads, 768 out, about 85 M parameters."""
        return cls(1280, 768, 4, 8, 16, 2048, 512, tuple(terms))


def tokenise(prompts: Sequence[str], config: TextEncoderConfig) -> Tensor:
    """Return the tokens `[B, L]` of prompts, as `models.tokens` tells them."""
    return written.tokenise(prompts, config.vocabulary, config.longest)


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map `[B, L, D]` to the same shape; `seen` `[B, 1, 1, L]` is false where padded."""
        B, L, D = x.shape
        q, k, v = self.qkv(self.norm_in(x)).view(B, L, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, L, D))
        out: Tensor = x + self.shrink(F.gelu(self.grow(self.norm_out(x))))
        return out


def _embedding(rows: int, width: int) -> nn.Embedding:
    """Return a table of unit variance; normal values would cost a second on the meta device."""
    values = torch.empty(rows, width).uniform_(-1.73, 1.73)
    return nn.Embedding(rows, width, _weight=values)


class TextEncoder(nn.Module):
    """Characters and terms, and learned registers that gather what the prompt says.

    A register with choices says one row of the codebook, or a mixture where it is unsure: so the
    backbone reads the same words that it learnt, however they were asked for.
    """

    codebook: Tensor

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.terms = _embedding(FIRST_CHARACTER, width)
        self.names = _embedding(1 + len(config.names) + len(config.hints), width)
        self.characters = _embedding(2 * config.buckets, width)
        self.positions = _embedding(config.longest, width)
        self.registers = nn.Parameter(torch.empty(config.registers, width).uniform_(-0.87, 0.87))
        self.layers = nn.ModuleList(Layer(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.out_width)
        self.register_buffer("codebook", torch.zeros(sum(config.choices), config.out_width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[B, L]` to the features of the registers `[B, R, D]` and their mean `[B, D]`."""
        gathered = self.gather(tokens)
        chances = []
        rows = torch.split(self.codebook, list(self.config.choices))
        named = self.named(tokens)
        for register, row, known in zip(gathered.unbind(1), rows, named, strict=False):
            scores = register @ row.T / register.shape[-1] ** 0.5 + known
            chances.append(scores.float().softmax(dim=-1))
        self._leave_alone(chances, named)
        said = [chance.to(row.dtype) @ row for chance, row in zip(chances, rows, strict=True)]
        features = torch.cat([*(one.unsqueeze(1) for one in said), gathered[:, len(said) :]], dim=1)
        return features, features.mean(dim=1)

    def _leave_alone(self, chances: list[Tensor], named: list[Tensor]) -> None:
        """Choose no further figure that is a vague guess, and no relation to nobody.

        `a balloon over a mountain` tells a relation, but its second figure is a place.
        """
        for register in self.config.figures:
            vague = (chances[register].amax(dim=1) < SURE) & ~named[register].any(dim=1)
            _say_nothing(chances, register, vague)
        if self.config.relation is not None and self.config.figures:
            alone = chances[self.config.figures[0]][:, -1] > SURE
            _say_nothing(chances, self.config.relation, alone)

    def named(self, tokens: Tensor) -> list[Tensor]:
        """Return for each register with choices what names add to its rows' scores `[B, rows]`.

        A register's last row, that nothing is said, has no name.
        """
        config = self.config
        found = torch.zeros(len(tokens), len(self.names.weight), device=tokens.device)
        found.scatter_(1, tokens // MARK, NAMED)
        rows, first, end = [], 1, 1 + len(config.names)
        for choices in config.choices:
            known = found[:, min(first, end) : min(first + choices - 1, end)]
            rows.append(F.pad(known, (0, choices - known.shape[1])))
            first += choices - 1
        for thing, (register, row, _) in enumerate(config.hints, end):
            rows[register][:, row] = found[:, thing]
        for figure, register in enumerate(config.figures, 2):
            many = (rows[0] > 0).sum(dim=1, keepdim=True)
            rows[register] = rows[0] * (many >= figure)
        return rows

    def gather(self, tokens: Tensor) -> Tensor:
        """Map `[B, L]` to what the registers gather `[B, R, D]`, before they choose."""
        B, L = tokens.shape
        R = self.config.registers
        x = self._embed(tokens) + self.positions.weight[:L]
        x = torch.cat([self.registers.expand(B, R, -1).to(x.dtype), x], dim=1)
        seen = F.pad(tokens != PADDING, (R, 0), value=True)
        for layer in self.layers:
            x = layer(x, seen[:, None, None])
        out: Tensor = self.out(self.norm(x[:, :R]))
        return out

    def _embed(self, tokens: Tensor) -> Tensor:
        """Look up terms, characters by two hashes of their code point, and what is named."""
        named, tokens = tokens // MARK, tokens % MARK
        code = (tokens - FIRST_CHARACTER).clamp(min=0)
        buckets = self.config.buckets
        first = self.characters(code % buckets)
        second = self.characters(buckets + (code * 40503 // 7) % buckets)
        terms = self.terms(tokens.clamp(max=FIRST_CHARACTER - 1))
        x = torch.where((tokens >= FIRST_CHARACTER).unsqueeze(-1), first + second, terms)
        known: Tensor = self.names(named) * (named > 0).unsqueeze(-1)
        return x + known


def _say_nothing(chances: list[Tensor], register: int, rows: Tensor) -> None:
    """Let a register choose its last row, that nothing is said, where `rows` `[B]` are true."""
    nothing = torch.zeros_like(chances[register])
    nothing[:, -1] = 1
    chances[register] = torch.where(rows.unsqueeze(1), nothing, chances[register])
