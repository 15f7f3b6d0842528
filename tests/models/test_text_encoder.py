import dataclasses

import torch

from aiprod_studio.models.text_encoder import (
    NAMED,
    TextEncoder,
    TextEncoderConfig,
    tokenise,
)

TINY = TextEncoderConfig(
    width=16, out_width=12, layers=1, heads=2, registers=3, buckets=32, longest=20,
    terms=("zoom in", "zoom"),
)  # fmt: skip


def test_terms_are_tokens_of_their_own_and_whole_words_only():
    tokens = tokenise(["Zoom  In", "zooming", "zoom"], TINY)
    assert tokens[0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert tokens[2].tolist() == [2, 0, 0, 0, 0, 0, 0]
    assert (tokens[1] > 512).all()


def test_any_script_is_read_and_long_prompts_are_cut():
    tokens = tokenise(["कुत्ता", "狗", "x" * 99, ""], TINY)
    features, pooled = TextEncoder(TINY)(tokens)
    assert tokens.shape == (4, 20)
    assert features.shape == (4, 3, 12)
    assert pooled.shape == (4, 12)


def test_padding_changes_nothing():
    encoder = TextEncoder(TINY).eval()
    with torch.no_grad():
        alone = encoder(tokenise(["a dog"], TINY))[1]
        beside = encoder(tokenise(["a dog", "a much longer one"], TINY))[1][:1]
    torch.testing.assert_close(alone, beside)


def test_a_register_with_choices_says_a_row_of_the_codebook():
    torch.manual_seed(0)
    encoder = TextEncoder(dataclasses.replace(TINY, choices=(4, 2))).eval()
    encoder.codebook.copy_(torch.randn(6, 12) * 50)
    tokens = tokenise(["a dog", "狗"], TINY)
    with torch.no_grad():
        features, pooled = encoder(tokens)
        gathered = encoder.gather(tokens)
    chosen = (gathered[:, 0] @ encoder.codebook[:4].T).argmax(dim=1)
    torch.testing.assert_close(features[:, 0], encoder.codebook[:4][chosen], atol=2.0, rtol=0.1)
    torch.testing.assert_close(features[:, 2], gathered[:, 2])
    torch.testing.assert_close(pooled, features.mean(dim=1))


def test_a_name_in_the_prompt_tips_the_scale_for_its_row():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, choices=(3, 2), names=(("dog", "perro"), ("cat",), ("sea",)))
    encoder = TextEncoder(config).eval()
    encoder.codebook.copy_(torch.randn(5, 12))
    with torch.no_grad():
        cat = encoder(tokenise(["un cat"], config))[0]
        dog, sea = encoder(tokenise(["el perro", "the sea"], config))[0]
    assert torch.allclose(dog[0], encoder.codebook[0], atol=0.3)
    assert torch.allclose(cat[0, 0], encoder.codebook[1], atol=0.3)
    assert torch.allclose(sea[1], encoder.codebook[3], atol=0.3)


def test_hints_name_rows_of_any_register_and_figures_choose_among_what_the_first_one_does():
    torch.manual_seed(0)
    config = dataclasses.replace(
        TINY,
        choices=(3, 2, 3),
        names=(("dog", "perro"), ("cat",)),
        hints=((1, 0, ("huge", "riesig")),),
        figures=(2,),
    )
    encoder = TextEncoder(config).eval()
    first, second, more = encoder.named(tokenise(["a dog", "riesiger Hund", "dog, cat"], config))
    assert first.tolist() == [[NAMED, 0, 0], [0, 0, 0], [NAMED, NAMED, 0]]
    assert second.tolist() == [[0, 0], [NAMED, 0], [0, 0]]
    assert more.tolist() == [[0, 0, 0], [0, 0, 0], [NAMED, NAMED, 0]]
    encoder.codebook.copy_(torch.randn(8, 12))
    with torch.no_grad():
        huge = encoder(tokenise(["a huge one"], config))[0]
    assert torch.allclose(huge[0, 1], encoder.codebook[3], atol=0.3)


def test_no_further_figure_is_guessed_and_nobody_has_a_relation():
    config = dataclasses.replace(TINY, choices=(4, 3, 4), figures=(2,), relation=1)
    encoder = TextEncoder(config).eval()
    torch.nn.init.normal_(encoder.codebook)
    rows = torch.split(encoder.codebook, [4, 3, 4])

    def say(*scores: list[float], named: bool = False) -> list[torch.Tensor]:
        chances = [torch.tensor([row]).softmax(dim=1) for row in scores]
        known = [torch.zeros_like(chance) for chance in chances]
        known[2][0, 0] = NAMED * named
        encoder._leave_alone(chances, known)
        return chances

    first, related = [9.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0]
    vague, sure = [0.2, 0.1, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]
    nothing, nobody = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    chances = say(first, related, vague)
    assert torch.equal(chances[1], nothing)
    assert torch.equal(chances[2], nobody)
    assert chances[0][0, 0] > 0.9
    for kept in (say(first, related, sure), say(first, related, vague, named=True)):
        assert kept[1][0, 0] > 0.9
        assert kept[2][0, 0] > kept[2][0, 3]
    torch.nn.init.zeros_(encoder.out.weight)  # so that all it has are guesses
    torch.nn.init.zeros_(encoder.out.bias)
    said = encoder(tokenise(["a dog"], config))[0]
    torch.testing.assert_close(said[0, 2], rows[2][3])
