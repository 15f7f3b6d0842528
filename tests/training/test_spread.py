import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from aiprod_studio.errors import BadRequest
from aiprod_studio.training.order import Order
from aiprod_studio.training.spread import Spread, joined
from aiprod_studio.training.train import train


def test_two_processes_have_the_losses_of_one(tiny, tiny_file, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["train", "--config", str(tiny_file), "--folder", str(tmp_path / "two"), "--phase", "1"]
    command = [sys.executable, "-m", "aiprod_studio", *words, "--device", "cpu"]
    # What torchrun sets for each of its processes.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    train(Order(tiny, tmp_path / "one", Spread(torch.device("cpu")), last=1))
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for name in ("text_encoder", "audio_vae", "video_vae", "backbone"):
        notes = [
            json.loads((tmp_path / many / f"{name}.jsonl").read_text().splitlines()[-1])
            for many in ("one", "two")
        ]
        assert notes[0]["step"] == notes[1]["step"]
        for key in ("loss", "norm", "held_out"):
            assert notes[1][key] == pytest.approx(notes[0][key], rel=0.01), (name, key)


def test_each_process_has_its_part_of_a_batch():
    rows = {"x": torch.arange(6)}
    parts = [Spread(torch.device("cpu"), rank, 3).part(rows)["x"].tolist() for rank in range(3)]
    assert parts == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(BadRequest, match="cannot be divided among 3"):
        Spread(torch.device("cpu"), 0, 3).check_batch(4)


def test_a_device_that_is_not_here_is_told():
    with pytest.raises(BadRequest, match="Try --device cpu"), joined("nothing"):
        pass
    with joined("cpu") as alone:
        assert alone == Spread(torch.device("cpu"), 0, 1)
