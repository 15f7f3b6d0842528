import torch

from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig, latent_count


def test_sound_keeps_its_length():
    vae = AudioVAE(AudioVAEConfig(4, 16, 1)).eval()
    sound = torch.sin(torch.arange(34_000) * 0.2).unsqueeze(0) * 0.5
    with torch.no_grad():
        latents = vae.encode(sound)
        heard = vae.decode(latents, 34_000)
    assert latents.shape == (1, 4, latent_count(34_000 / 16_000))
    assert heard.shape == (1, 34_000)
    assert heard.abs().max() <= 1


def test_phases_are_found_for_a_tone():
    vae = AudioVAE(AudioVAEConfig(4, 16, 1))
    tone = torch.sin(torch.arange(16_000) * 0.25).unsqueeze(0) * 0.5
    magnitude = torch.stft(tone, 640, 160, window=torch.hann_window(640), return_complex=True).abs()
    heard = vae._sound(magnitude)[0, 2000:14_000]
    spectrum = torch.fft.rfft(heard).abs()
    peak = spectrum.argmax() / len(heard) * 2 * torch.pi
    assert abs(peak - 0.25) < 0.005
    assert 0.25 < heard.std() < 0.45
