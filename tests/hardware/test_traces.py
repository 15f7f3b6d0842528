"""The memory model against traces of the real networks on the meta device, at real shapes.

`tests/benchmarks/peaks.py` holds more of them and prints the table.
"""

from __future__ import annotations

import pytest
import torch

from aiprod_studio.engines.catalog import cards
from tests.benchmarks import architectures
from tests.benchmarks.peaks import Case, predicted, shapes_only, trace, traced

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize(
    "case",
    [
        Case("wan2.1-1.3b", "denoise", 832, 480, 81),
        Case("wan2.2-5b", "denoise", 1280, 704, 121),
        Case("wan2.2-a14b", "denoise", 1280, 720, 81),
        Case("ltx-video-2b", "denoise", 704, 512, 121),
        Case("ltx-2", "denoise", 1920, 1088, 121),
        Case("wan2.1-1.3b", "decode", 832, 480, 17),
        Case("ltx-video-2b", "decode", 704, 512, 121),
        Case("ltx-2", "decode", 1280, 704, 121),
    ],
    ids=lambda case: f"{case.engine} {case.stage}",
)
def test_the_formula_comes_within_a_tenth_of_the_trace(case: Case) -> None:
    work, whole = predicted(case)
    assert work == pytest.approx(traced(case), rel=0.1)
    assert work < whole


def test_a_text_encoders_peak_is_nearly_all_weights() -> None:
    case = Case("ltx-video-2b", "encode", 704, 512, 121)
    work, whole = predicted(case)
    assert abs(work - traced(case)) < 0.01 * whole


def test_a_reference_is_encoded_in_what_the_formula_says() -> None:
    width, height, frames = 768, 512, 49
    with shapes_only():
        network = architectures.video_vae("ltx-2")

        def encode() -> object:
            video = torch.zeros(1, 3, frames, height, width, dtype=torch.float32)
            return network.encode(video.to(torch.bfloat16)).latent_dist.mode()

        seen = trace(network, encode)
    formula = cards()["ltx-2"].memory.encode * width * height * frames
    assert formula == pytest.approx(seen, rel=0.05)
