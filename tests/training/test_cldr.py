import gzip
import json

import pytest

from aiprod_studio.training.cldr import Annotations, name_subjects, pack_names
from aiprod_studio.training.world import load_world

DOG, DOG_FACE, FOX, LION = "🐕", "🐶", "🦊", "🦁"


def write_locale(root, locale, rows):
    folder = root / "annotations" / locale
    folder.mkdir(parents=True)
    table = {"annotations": {"annotations": rows}} if rows else {"annotations": {}}
    (folder / "annotations.json").write_text(json.dumps(table), "utf-8")


def rows_of(prefix):
    return {
        "".join(chr(int(code, 16)) for code in s.facts["sprite"].split("-")): {
            "default": [f"{prefix}{s.id}", "thing"],
            "tts": [f"{prefix}{s.id}"],
        }
        for s in load_world().subjects
    }


@pytest.fixture
def french():
    names = {DOG: "chien", DOG_FACE: "tête de chien", FOX: "tête de renard", LION: "tête de lion"}
    keywords = {
        DOG: ("animal", "chien", "aboyer"),
        DOG_FACE: ("animal", "chien", "tête de chien"),
        FOX: ("animal", "renard", "tête"),
        LION: ("animal", "roi", "lion", "tête"),
    }
    return Annotations(names, keywords)


def test_faces_and_generic_keywords_are_left_out(french):
    assert name_subjects(french) == {"dog": ["chien"], "fox": ["renard"], "lion": ["lion"]}


def test_an_ambiguous_name_stays_with_one_subject(french):
    french.names[FOX] = "chien"
    french.keywords[FOX] = ()
    names = name_subjects(french)
    assert sum("chien" in words for words in names.values()) == 1


def test_packed_names_leave_out_empty_foreign_and_poor_locales(tmp_path):
    write_locale(tmp_path, "en", rows_of(""))
    write_locale(tmp_path, "no", rows_of("n "))
    write_locale(tmp_path, "sv", rows_of("s "))
    write_locale(tmp_path, "sv-FI", {DOG: {"tts": ["hund"], "default": []}})
    write_locale(tmp_path, "ia", {})
    write_locale(tmp_path, "xx", rows_of(""))
    write_locale(tmp_path, "ku", dict(list(rows_of("k ").items())[:20]))
    pack_names(tmp_path, tmp_path / "names.json.gz")
    first = (tmp_path / "names.json.gz").read_bytes()
    packed = json.loads(gzip.decompress(first))
    assert set(packed) == {"en", "nb", "sv"}
    assert packed["nb"]["dog"][0] == "n dog"
    pack_names(tmp_path, tmp_path / "names.json.gz")
    assert (tmp_path / "names.json.gz").read_bytes() == first
