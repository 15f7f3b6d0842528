"""Imagined machines: what a size means, and that it is said."""

from __future__ import annotations

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.hardware.imagined import imagine, parse_gigabytes

GB = 2**30


@pytest.mark.parametrize(
    ("text", "size"), [("24 GB", 24.0), ("24gb", 24.0), (" 24 ", 24.0), ("7.5 GiB", 7.5)]
)
def test_reads_sizes(text: str, size: float) -> None:
    assert parse_gigabytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-8", "much", "8 MB", "nan", "1e3", "99999"])
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest, match="24 GB"):
        parse_gigabytes(text)


def test_says_what_it_takes_a_size_for() -> None:
    machine = imagine(24)
    assert (machine.device, machine.total_bytes) == ("cuda", 24 * GB)
    assert machine.free_bytes < machine.total_bytes
    assert machine.ram_free_bytes < machine.ram_bytes == 48 * GB
    assert {"bfloat16", "float8", "int8"} < set(machine.dtypes)
    assert "8.9" in machine.because
    assert imagine(4).name == "an imagined GPU of 4 GB"


def test_more_memory_is_never_slower_arithmetic() -> None:
    rates = [imagine(size).half_flops for size in (4, 6, 8, 12, 16, 24, 32, 80, 200)]
    assert rates == sorted(rates)
    none = imagine(0, 16)
    assert (none.device, none.half_flops, none.ram_bytes) == ("cpu", 0.0, 16 * GB)
