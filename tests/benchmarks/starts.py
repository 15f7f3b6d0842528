"""How the networks of a folder come from their files: seconds, and RAM beside the largest of them.

    python -m tests.benchmarks.starts ours|plain FOLDER DEVICE PRECISION

prints it as JSON. Each way has a process of its own, whose peak is that of this alone: ours brings
part by part, each gone before the next, as where RAM is short; plain diffusers all of them. Every
page is read, as a network that runs does. Seconds are the process's own on a CPU, so that other
programs do not count; it waits for no disk, as the system has kept the files in RAM.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = 4096


def main(way: str, folder: Path, device: str, precision: str) -> None:
    """Load one way and print what it took: seconds, bytes of each network, peak of the RAM."""
    import torch

    from aiprod_studio.engines.weights import quiet

    quiet()
    names = _networks(folder)
    before = _status("VmRSS")
    clock = time.perf_counter if device == "cuda" else time.process_time
    began = clock()
    networks = _ours(folder, names, device, precision)
    if way == "plain":
        networks = _plain(folder, names, device, getattr(torch, precision))
    sizes = {name: _read(network) for name, network in networks}
    found = {"seconds": clock() - began, "sizes": sizes}
    print(json.dumps(found | {"peak": _status("VmHWM") - before}))


def _networks(folder: Path) -> list[str]:
    """Return the names of the parts with weights, their classes imported."""
    import diffusers
    import transformers

    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    names = sorted({path.parent.name for path in folder.glob("*/*.safetensors")})
    for library, kind in (index[name] for name in names):
        getattr({"transformers": transformers}.get(library, diffusers), kind, None)
    return names


def _ours(folder: Path, names: list[str], device: str, precision: str) -> Iterator[tuple[str, Any]]:
    """Yield each network while it is held: on a GPU to stay, else for its stage."""
    from aiprod_studio.engines.weights import open_components
    from aiprod_studio.types import Plan

    place = "resident" if device == "cuda" else "model"
    placement = dict.fromkeys(("encode", "denoise", "decode"), place)
    plan = Plan(device, precision, 64, 64, 9, 1, 0, {}, 0.0, (), placement=placement)
    with open_components(folder, plan) as components:
        for name in names:
            with components.use(name) as network:
                yield name, network
            del network


def _plain(folder: Path, names: list[str], device: str, kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield each network of diffusers' pipeline."""
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=kind).to(device)
    for name in names:
        yield name, getattr(pipeline, name)


def _read(network: Any) -> int:
    """Return the bytes of a network's weights, having read of each page."""
    import torch

    tensors = [*network.parameters(), *network.buffers()]
    for tensor in tensors:
        tensor.detach().flatten().view(torch.uint8)[::PAGE].sum().item()
    return sum(tensor.nbytes for tensor in tensors)


def _status(name: str) -> int:
    """Return a line of what the system says of this process, in bytes."""
    rows = Path("/proc/self/status").read_text("utf-8").splitlines()
    return 1024 * next(int(row.split()[1]) for row in rows if row.startswith(name))


def report_starts(name: str, folder: Path, device: str, precision: str, rounds: int) -> None:
    """Print a table of both ways in turn, the best of their rounds."""
    print(f"\n{name}; {gigabytes(_files(folder))} of files that were read before")
    print(f"{'':8}{'loaded':>9}{'a second':>12}{'peak RAM':>12}   of the largest part")
    ways: dict[str, list[dict[str, Any]]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for way, found in ways.items():
            found.append(_measure(way, folder, device, precision))
    for way, found in ways.items():
        seconds = min(one["seconds"] for one in found)
        peak, sizes = min(one["peak"] for one in found), found[0]["sizes"].values()
        print(
            f"{way:8}{seconds:8.2f}s{gigabytes(sum(sizes) / seconds):>12}{gigabytes(peak):>12}"
            f"{peak / max(sizes):22.2f}",
            flush=True,
        )


def _measure(way: str, folder: Path, device: str, precision: str) -> dict[str, Any]:
    words = [sys.executable, "-m", __name__, way, str(folder), device, precision]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))


def gigabytes(count: float) -> str:
    """Return bytes as a person reads them."""
    return f"{count / 1e9:.2f} GB"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
