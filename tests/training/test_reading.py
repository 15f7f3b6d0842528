"""What the shipped starter reads in prompts as people type them."""

import pytest
import torch

from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.models.text_encoder import tokenise
from aiprod_studio.settings import settings
from aiprod_studio.training.concepts import concepts_of, kinds
from aiprod_studio.training.losses import read_register

# What a prompt says by kind; "-" where it must not be overheard.
PROMPTS = [
    ("a cat", {"subjects": "cat", "others": "-", "thirds": "-", "sizes": "-", "counts": "-"}),
    ("A dog runs through the forest", {"subjects": "dog", "motions": "run", "places": "forest"}),
    ("a cat jumps on the grass", {"subjects": "cat", "motions": "bounce", "places": "meadow"}),
    ("a red car drives down a street in the rain", {"subjects": "car", "motions": "run"}),
    ("a hamburger falls from the sky", {"subjects": "hamburger", "motions": "fall"}),
    ("sunset on the beach, a sailboat", {"subjects": "sailboat", "times": "sunset"}),
    ("A polar bear walks across the ice", {"subjects": "polar-bear", "motions": "walk"}),
    ("kitten sleeping in a living room", {"subjects": "cat", "places": "room"}),
    ("a cat beside a dog", {"subjects": "cat", "others": "dog", "relations": "beside"}),
    ("a red balloon over a mountain at night", {"others": "-", "relations": "-"}),
    ("a balloon above the mountains", {"subjects": "balloon", "others": "-", "relations": "-"}),
    ("eine Rakete über dem Meer", {"subjects": "rocket", "others": "-", "relations": "-"}),
    ("un ballon au-dessus de la montagne", {"others": "-", "relations": "-"}),
    ("a bus behind a tree", {"subjects": "bus", "others": "tree", "relations": "behind"}),
    ("tiger chasing a deer", {"subjects": "tiger", "others": "deer", "relations": "chasing"}),
    ("three penguins on ice", {"subjects": "penguin", "counts": "three", "places": "snow"}),
    ("2 cats", {"subjects": "cat", "counts": "two"}),
    ("a huge elephant", {"subjects": "elephant", "sizes": "huge", "others": "-"}),
    ("two tiny robots in the city", {"counts": "two", "sizes": "tiny", "places": "city"}),
    ("ein großer Bär im Wald bei Nacht", {"subjects": "bear", "sizes": "large", "times": "night"}),
    ("drei Hunde", {"subjects": "dog", "counts": "three"}),
    ("Un chat à côté d’un chien", {"subjects": "cat", "others": "dog", "relations": "beside"}),
    ("dos perros corren por el bosque", {"counts": "two", "motions": "run", "places": "forest"}),
    ("кот рядом с собакой", {"subjects": "cat", "others": "dog", "relations": "beside"}),
    ("огромный слон идёт по джунглям", {"subjects": "elephant", "sizes": "huge"}),
    ("两只兔子在草地上", {"subjects": "rabbit", "counts": "two", "places": "meadow"}),
    ("夜の街を走る車", {"subjects": "car", "motions": "run", "places": "city", "times": "night"}),
    ("سيارة حمراء في المدينة ليلا", {"subjects": "car", "places": "city", "times": "night"}),
    ("जंगल में दो हाथी", {"subjects": "elephant", "counts": "two"}),
]


@pytest.fixture(scope="module")
def encoder():
    bundle = settings().assets / "starter" / "starter.safetensors"
    return load_bundle(bundle).text_encoder


@pytest.mark.parametrize(("prompt", "said"), PROMPTS)
def test_the_starter_reads_plain_prompts(encoder, prompt, said):
    with torch.no_grad():
        features, _ = encoder(tokenise([prompt], encoder.config))
    for kind, concept in said.items():
        scores = read_register(features[:, kinds().index(kind)], kind)
        named = [each.id for each in concepts_of(kind)] + ["-"]
        assert named[int(scores.argmax())] == concept, kind
