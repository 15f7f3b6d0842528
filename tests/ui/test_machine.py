"""What another process learned of the machine is read whole, its reason included."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.sentences import Said
from aiprod_studio.ui.machine import Machine, write

MACHINE = dataclasses.replace(imagine(12), because=Said("said.gpu", "on {device}", device="a GPU"))


def test_what_was_learned_comes_back_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(write(MACHINE), encoding="utf-8")
    known = Machine(file).hardware
    assert known is not None
    assert isinstance(known.because, Said)
    assert (known.because, known.because.key) == ("on a GPU", "said.gpu")
    assert known.because.values == {"device": "a GPU"}
    assert (known.device, known.dtypes) == (MACHINE.device, MACHINE.dtypes)


def test_a_reason_in_plain_english_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(dataclasses.asdict(imagine(0))), encoding="utf-8")
    known = Machine(file).hardware
    assert known is not None
    assert known.because == imagine(0).because


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    for damaged in ("", "{}", '{"because": 5}', '{"because": [1]}', "[]", '{"because": [1, 2, 3]}'):
        file.write_text(damaged, encoding="utf-8")
        assert Machine(file).hardware is None
