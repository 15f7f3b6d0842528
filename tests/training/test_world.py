"""The world: its artwork, laid out in sheets."""

from pathlib import Path

import numpy as np
from PIL import Image

from aiprod_studio.training.world import SPRITE_PIXELS, load_world, pack_sprites


def test_a_sheet_holds_every_subject_trimmed_and_standing(tmp_path: Path) -> None:
    subjects = load_world().subjects
    for number, subject in enumerate(subjects):
        picture = Image.new("RGBA", (40, 40))
        # Half as wide as it is high, with an empty border that the sheet must not show.
        picture.paste((number, 255 - number, 90, 255), (10, 5, 20, 25))
        picture.save(tmp_path / f"{subject.facts['sprite']}.webp", lossless=True)

    pack_sprites(tmp_path, tmp_path / "sheet.webp")

    p = SPRITE_PIXELS
    sheet = np.asarray(Image.open(tmp_path / "sheet.webp").convert("RGBA")).astype(int)
    columns = sheet.shape[1] // p
    assert sheet.shape[0] * columns // p >= len(subjects)
    for number in (0, columns + 1, len(subjects) - 1):
        row, column = divmod(number, columns)
        tile = sheet[row * p : (row + 1) * p, column * p : (column + 1) * p]
        seen = tile[..., 3] > 128
        rows, widths = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        assert (rows[0], rows[-1]) == (2, p - 3)
        assert len(widths) == (p - 4) // 2
        assert abs(widths[0] + widths[-1] + 1 - p) <= 1
        assert abs(tile[p // 2, p // 2, :3] - [number, 255 - number, 90]).max() < 12
