import json
import os
import signal
import threading
import time

import pytest
import torch

from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.errors import BadRequest
from aiprod_studio.training.train import main


@pytest.fixture
def words(tiny_file, tmp_path):
    return ["--config", str(tiny_file), "--folder", str(tmp_path / "run"), "--device", "cpu"]


def test_all_networks_are_trained_phase_by_phase_and_resumed(words, tmp_path, capsys):
    assert main([*words, "--end-phase", "1"]) == 0
    folder = tmp_path / "run"
    bundle = folder / "starter.safetensors"
    assert capsys.readouterr().out == f"{bundle}\n"
    networks = load_bundle(bundle)
    assert networks.backbone.config.width == 32
    assert networks.upscaler is not None
    assert networks.upscaler.config.blocks == 1
    assert networks.layout is not None
    assert networks.layout.config.text_width == 32
    assert networks.sketcher is not None
    assert networks.sketcher.config.figures == (0, 8, 11)
    first = torch.load(folder / "backbone.pt", weights_only=True)
    assert (first["phase"], first["step"]) == (1, 4)
    scale = torch.load(folder / "video_vae.scale.pt", weights_only=True)

    with pytest.raises(BadRequest, match="Add --resume"):
        main(words)
    assert main([*words, "--resume"]) == 0
    second = torch.load(folder / "backbone.pt", weights_only=True)
    assert (second["phase"], second["step"]) == (2, 4)
    again = torch.load(folder / "video_vae.scale.pt", weights_only=True)
    assert torch.equal(scale["deviation"], again["deviation"])
    notes = [json.loads(row) for row in (folder / "backbone.jsonl").read_text().splitlines()]
    assert {note["phase"] for note in notes} == {1, 2}
    page = (folder / "training.html").read_text(encoding="utf-8")
    assert page.count("<td>done</td>") == 10
    assert "data:image/webp" in page


def test_one_network_is_trained_alone_and_the_others_stay(words, tmp_path, caplog):
    assert main([*words, "--end-phase", "1", "--only", "text_encoder"]) == 0
    assert [path.stem for path in (tmp_path / "run").glob("*.jsonl")] == ["text_encoder"]
    assert "backbone has no exercise" in caplog.text


def test_only_weights_that_a_phase_names_are_moved(words, tiny_file, tmp_path):
    text = tiny_file.read_text(encoding="utf-8")
    assert main([*words, "--end-phase", "1"]) == 0
    first = torch.load(tmp_path / "run" / "backbone.pt", weights_only=True)["network"]
    begin, phase, rest = text.rpartition("[phases.backbone]\n")
    tiny_file.write_text(begin + phase + "learns = 'blocks.[67]|final'\n" + rest, encoding="utf-8")
    assert main([*words, "--phase", "2", "--only", "backbone", "--resume"]) == 0
    second = torch.load(tmp_path / "run" / "backbone.pt", weights_only=True)["network"]
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert {name.split(".")[1] for name in moved} == {"blocks", "final"}
    assert {name.split(".")[2] for name in moved if "blocks" in name} == {"6", "7"}
    tiny_file.write_text(begin + phase + "learns = 'nose'\n" + rest, encoding="utf-8")
    with pytest.raises(BadRequest, match="No weight's name has 'nose' in it"):
        main([*words, "--phase", "2", "--only", "backbone", "--resume"])


def test_a_signal_saves_and_the_exit_code_is_0(words, tmp_path, capsys):
    folder = tmp_path / "run"

    def end() -> None:
        while not (folder / "text_encoder.jsonl").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=end)
    watcher.start()
    assert main([*words, "--hours", "1"]) == 0
    watcher.join()
    assert "The same command with --resume goes on." in capsys.readouterr().err
    assert (folder / "text_encoder.pt").is_file()
    assert (folder / "training.html").is_file()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "Say what to train"),
        (["huge"], "invalid choice"),
        (["starter", "--phase", "6"], "Phases go from 1 to 5"),
        (["starter", "--phase", "1", "--end-phase", "2"], "--phase is one phase"),
        (["starter", "--start-phase", "3", "--end-phase", "2"], "Phases go from 1 to 5"),
        (["starter", "--hours", "0"], "no length of training"),
        (["starter", "--hours", "x"], "invalid float"),
        (["--config", "nowhere.toml"], "cannot be read"),
        (["starter", "--device", "toaster"], "Try --device cpu"),
        (["starter", "--data", "nowhere"], "is no folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(more, said, tmp_path):
    with pytest.raises(BadRequest, match=said):
        main(more)
    assert not (tmp_path / "home").exists()


def test_clips_from_a_folder_are_asked_for_by_name(words, tmp_path):
    (tmp_path / "videos").mkdir()
    with pytest.raises(BadRequest, match="There are no videos"):
        main([*words, "--data", str(tmp_path / "videos")])


def test_the_demo_tells_that_losses_fell(tmp_path, capsys):
    assert main(["--demo", "--hours", "0.006", "--folder", str(tmp_path), "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'training.html'}\n"
    losses = {
        words[0]: (float(words[2]), float(words[4]))
        for line in told.err.splitlines()
        if "→" in line and (words := line.split())
    }
    assert losses.keys() >= {"text_encoder", "video_vae", "backbone"}
    # A slow machine comes to one look only, which is both the first and the last.
    # Networks that start from components get worse before they get better, and may not get so far.
    assert losses["text_encoder"][1] <= losses["text_encoder"][0]
    assert any(last < first for first, last in losses.values()), losses
