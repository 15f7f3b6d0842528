import pytest
import torch

from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.layout import CELL_FEATURES, SOUND_FEATURES, Layout
from aiprod_studio.models.sketches import ANIMATIC_FEATURES


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    network = Backbone(BackboneConfig(8, 4, 16, 32, 2, 1)).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def text(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 7, 16), torch.randn(batch, 16)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 2, 2), (3, 2, 5), (5, 4, 1)])
def test_any_grid_keeps_its_shape_with_and_without_sound(backbone, frames, height, width):
    video, audio = torch.randn(2, 8, frames, height, width), torch.randn(2, 4, 6)
    times = torch.rand(2, 1)
    with torch.no_grad():
        clean, sound = backbone(video, audio, times, text(2), 8.0)
        alone, silence = backbone(video, None, times, text(2), 8.0)
    assert clean.shape == alone.shape == video.shape
    assert sound.shape == audio.shape
    assert silence is None


def test_picture_and_sound_are_denoised_jointly(backbone):
    video, audio, words = torch.randn(1, 8, 2, 2, 2), torch.randn(1, 4, 5), text()
    times = torch.full((1, 1), 0.5)
    with torch.no_grad():
        clean, sound = backbone(video, audio, times, words, 8.0)
        other, _ = backbone(video, audio + 1, times, words, 8.0)
        _, heard = backbone(video + 1, audio, times, words, 8.0)
    assert not torch.allclose(clean, other)
    assert not torch.allclose(sound, heard)


def test_one_time_for_all_equals_the_same_time_per_token(backbone):
    video, audio, words = torch.randn(1, 8, 2, 2, 2), torch.randn(1, 4, 5), text()
    with torch.no_grad():
        clean, _ = backbone(video, audio, torch.full((1, 1), 0.3), words, 8.0)
        same, _ = backbone(video, audio, torch.full((1, 13), 0.3), words, 8.0)
    torch.testing.assert_close(clean, same)


def test_a_window_knows_where_in_the_frame_it_lies(backbone):
    video, words, times = torch.randn(2, 8, 1, 2, 2), text(2), torch.full((2, 1), 0.5)
    with torch.no_grad():
        whole, _ = backbone(video, None, times, words, 8.0)
        same, _ = backbone(video, None, times, words, 8.0, torch.tensor([[0, 0, 2, 2]] * 2))
        moved, _ = backbone(
            video, None, times, words, 8.0, torch.tensor([[0, 0, 2, 2], [3, 1, 8, 8]])
        )
    torch.testing.assert_close(whole, same)
    torch.testing.assert_close(whole[0], moved[0])
    assert not torch.allclose(whole[1], moved[1])


def test_a_layout_is_read_by_picture_and_sound_and_nothing_is_like_none():
    torch.manual_seed(0)
    network = Backbone(BackboneConfig(8, 4, 16, 32, 2, 1, 0.0, True, 6)).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    video, audio, words = torch.randn(1, 8, 2, 2, 3), torch.randn(1, 4, 5), text()
    cells, sounds = torch.randn(1, 2, 2, 3, CELL_FEATURES), torch.randn(1, 5, SOUND_FEATURES)

    def denoise(layout, audio=audio):
        times = torch.full((1, 1), 0.5)
        with torch.no_grad():
            return network(video, audio, times, words, 8.0, None, layout)

    drawn = torch.randn(1, 2, 2, 3, ANIMATIC_FEATURES)
    bare, nothing = denoise(None), denoise(Layout(0 * cells, 0 * sounds))
    seen, heard = denoise(Layout(cells, 0 * sounds)), denoise(Layout(0 * cells, sounds))
    sketched = denoise(Layout(0 * cells, 0 * sounds, drawn))
    for one, other in zip(bare, nothing, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(bare[0], seen[0])
    assert not torch.allclose(bare[1], heard[1])
    assert not torch.allclose(bare[0], sketched[0])
    assert denoise(Layout(cells, sounds[:, :0], drawn), None)[1] is None
