"""Which PyTorch: the choice as pure functions, the queries on real files, programs and servers."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiprod_studio.errors import StudioError
from aiprod_studio.hardware import builds

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="tested on Linux only")
CLOSED_PORT = "http://127.0.0.1:9/simple"


@pytest.mark.parametrize(
    ("text", "driver", "capability"),
    [
        ("581.29, 8.6\n", (581, 29), (8, 6)),
        ("580.65.06, 6.1\r\n580.65.06, 12.0\r\n", (580, 65, 6), (12, 0)),
        ("[N/A], [N/A]\n", (), ()),
        ('Field "compute_cap" is not a valid field to query.', (), ()),
        ("", (), ()),
    ],
)
def test_reads_nvidia_smi(text: str, driver: tuple[int, ...], capability: tuple[int, ...]) -> None:
    gpu = builds.parse_nvidia_smi(text)
    assert (gpu.driver, gpu.capability) == (driver, capability)
    assert gpu.vendor == ("nvidia" if driver else "")


@pytest.mark.parametrize(
    ("system", "driver", "capability", "build", "source", "word"),
    [
        ("Windows", "581.29", "8.6", "cuda", "cu130", "cu130"),  # an RTX 3050
        ("Windows", "560.94", "8.6", "cuda", "cu126", "cu126"),
        ("Windows", "581.29", "6.1", "cuda", "cu126", "cu126"),
        ("Windows", "581.29", "12.0", "cuda", "cu130", "cu130"),  # an RTX 5050
        ("Windows", "576.80", "12.0", "cpu", "cpu", "driver is updated"),
        ("Windows", "528.24", "8.6", "cpu", "cpu", "driver is updated"),
        ("Windows", "474.14", "3.5", "cpu", "cpu", "too old a card"),
        ("Linux", "580.65.06", "9.0", "cuda", "", "default"),
        ("Linux", "535.104.05", "9.0", "cuda", "cu126", "cu126"),
        ("Linux", "580.65.06", "7.0", "cuda", "cu126", "cu126"),
        ("Linux", "570.86.10", "10.0", "cpu", "cpu", "driver is updated"),
    ],
)
def test_chooses_by_driver_and_capability(
    system: str, driver: str, capability: str, build: str, source: str, word: str
) -> None:
    gpu = builds.parse_nvidia_smi(f"{driver}, {capability}")
    choice = builds.choose_torch(system, "x86_64", gpu, "")
    assert choice.build == build
    assert choice.source == (builds.TORCH_INDEX + source if source else "")
    assert word in choice.reason
    assert driver in choice.reason


def test_chooses_for_other_machines() -> None:
    index = builds.TORCH_INDEX
    assert builds.choose_torch("Darwin", "arm64", builds.Gpu(), "")[:2] == ("mac", "")
    amd = builds.choose_torch("Linux", "x86_64", builds.Gpu("amd", note="AMD gfx1100"), "")
    assert amd[:2] == ("rocm", index + builds.ROCM_BUILD)
    none = builds.choose_torch("Linux", "x86_64", builds.Gpu(), "")
    assert none[:2] == ("cpu", index + "cpu")
    assert "no GPU" in none.reason
    with pytest.raises(StudioError, match="Intel"):
        builds.choose_torch("Darwin", "x86_64", builds.Gpu(), "")


def test_an_override_wins_and_keeps_its_password() -> None:
    nvidia = builds.parse_nvidia_smi("581.29, 8.6")
    url = "https://me:secret@mirror.example/whl/cu130"
    choice = builds.choose_torch("Windows", "AMD64", nvidia, url)
    assert choice.source == url
    assert "secret" not in choice.reason
    assert "secret" not in builds.name_source(url)
    assert builds.choose_torch("Windows", "AMD64", nvidia, "pip").source == ""


def test_settles_for_pip_only_without_a_gpu() -> None:
    cpu = builds.Choice("cpu", builds.TORCH_INDEX + "cpu", "no GPU")
    cuda = builds.Choice("cuda", builds.TORCH_INDEX + "cu130", "NVIDIA")
    assert builds.settle_index(cpu, "Linux", lambda index: True) == cpu
    assert builds.settle_index(cpu, "Linux", lambda index: False)[:2] == ("any", "")
    assert builds.settle_index(cpu, "Windows", lambda index: False)[:2] == ("cpu", "")
    assert builds.settle_index(cuda, "Windows", lambda index: True) == cuda
    with pytest.raises(StudioError, match="AIPROD_TORCH_INDEX"):
        builds.settle_index(cuda, "Windows", lambda index: False)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing of it."""

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The URL of a real package index that has torch."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "index.html").write_text('<a href="torch-2.13.0.whl">torch</a>')
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_probes_an_index(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    assert builds.probe_index(index)
    assert not builds.probe_index(index + "/nothing")
    assert not builds.probe_index(CLOSED_PORT)
    assert not builds.probe_index("nonsense")


@LINUX
@pytest.mark.parametrize(
    ("script", "vendor", "word"),
    [
        ("echo 580.65.06, 9.0", "nvidia", "9.0"),
        ("echo broken; exit 9", "", "failed"),
        ("echo", "", "no usable card"),
    ],
)
def test_asks_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, vendor: str, word: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    gpu = builds.query_gpu("Linux")
    assert gpu.vendor == vendor
    assert word in gpu.note


@pytest.mark.parametrize(
    ("targets", "vendor", "word"),
    [
        ((0, 110000), "amd", "gfx1100"),
        ((0, 100306, 90010), "amd", "gfx90a"),
        ((0, 100306), "", "gfx1036"),
        ((0,), "", "no GPU"),
        ((), "", "no GPU"),
    ],
)
def test_reads_amd_cards(tmp_path: Path, targets: tuple[int], vendor: str, word: str) -> None:
    for number, target in enumerate(targets):
        node = tmp_path / "kfd" / "kfd" / "topology" / "nodes" / str(number)
        node.mkdir(parents=True)
        (node / "properties").write_text(f"cpu_cores_count 8\ngfx_target_version {target}\n")
    gpu = builds.query_amd(tmp_path)
    assert gpu.vendor == vendor
    assert word in gpu.note


def test_says_and_checks_the_size() -> None:
    env = Path("/env")
    assert "3.2 GB to download, 6.7 GB in all" in builds.describe_size(
        builds.Choice("cuda", "", ""), env
    )
    assert builds.describe_size(builds.Choice("any", "", ""), env).startswith("up to")
    builds.check_space(builds.Choice("cuda", "", ""), 7 * 10**9, 0)
    builds.check_space(builds.Choice("cuda", "", ""), 10**9, 6 * 10**9)
    with pytest.raises(StudioError, match=r"2\.0 GB free and 6\.7 GB are needed\. Next:"):
        builds.check_space(builds.Choice("cuda", "", ""), 2 * 10**9, 0)
