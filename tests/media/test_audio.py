import wave
from pathlib import Path

import av
import numpy as np
import pytest

from aiprod_studio.errors import MediaError
from aiprod_studio.media.audio import read_audio, resample, write_wav


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    wave_ = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave_ / (1 + number) for number in range(channels)]).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
def test_wav_comes_back(tmp_path: Path, channels: int) -> None:
    sound = tone(0.3, 16_000, channels)
    write_wav(tmp_path / "a.wav", sound, 16_000, {"comment": "über"}, b"<x/>")
    read = read_audio(tmp_path / "a.wav", 16_000)
    assert read.shape == sound.shape
    assert read.dtype == np.float32
    assert np.abs(read - sound).max() < 1e-4
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (
            channels,
            16_000,
            4_800,
        )


def test_reading_resamples(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(0.5, 44_100), 44_100)
    read = read_audio(tmp_path / "a.wav", 16_000)
    assert abs(read.shape[1] - 8_000) <= 1
    assert np.abs(read[:, 100:7_900] - tone(0.5, 16_000)[:, 100:7_900]).max() < 0.01


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (16_000, 48_000), (8_000, 8_000)])
def test_resample_keeps_length_and_phase(rate: int, target: int) -> None:
    out = resample(tone(0.25, rate, 2), rate, target)
    assert out.shape == (2, target // 4)
    inner = slice(200, -200)
    assert np.abs(out - tone(0.25, target, 2))[:, inner].max() < 0.02


def test_six_channels_are_mixed_to_two(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=48_000, layout="5.1")
        samples = (tone(0.2, 48_000, 6) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1), "s16", "5.1")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert read_audio(tmp_path / "a.flac", 16_000).shape == (2, 3_200)


def test_broken_samples_are_made_safe(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([[np.nan, np.inf, -3, 0.5]], np.float32), 8_000)
    assert read_audio(tmp_path / "a.wav", 8_000)[0].round(2).tolist() == [0, 1, -1, 0.5]


def test_bad_files_and_shapes_are_explained(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    for name, reason in [("missing.wav", "does not exist"), ("text.wav", "cannot be read")]:
        with pytest.raises(MediaError, match=reason):
            read_audio(tmp_path / name, 16_000)
    with pytest.raises(MediaError, match="one or two channels"):
        write_wav(tmp_path / "a.wav", np.zeros(10, np.float32), 8_000)
    assert not (tmp_path / "a.wav").exists()
