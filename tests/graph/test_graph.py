import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.graph.graph import Graph, Step


def one() -> int:
    return 1


def double(value: int) -> int:
    return value * 2


def shout(value: str) -> str:
    return value.upper()


def maybe(value: int | None) -> str:
    return str(value)


def test_steps_run_in_order_and_the_last_result_comes_back():
    graph = Graph((Step("one", one), Step("two", double, ("one",)), Step("said", maybe, ("two",))))
    assert graph.run() == "2"


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((Step("two", double, ("one",)), Step("one", one)), "needs 'one'"),
        ((Step("one", one), Step("loud", shout, ("one",))), "cannot take"),
        ((Step("one", one), Step("two", double)), "takes 1 results, not 0"),
        ((Step("one", one), Step("one", one)), "Two steps"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(steps, words):
    with pytest.raises(BadRequest, match=words):
        Graph(steps)


def test_equal_steps_are_not_run_again_and_changed_ones_are():
    runs: list[str] = []

    def text() -> str:
        runs.append("text")
        return "dog"

    def draw(value: str) -> str:
        runs.append("draw")
        return value

    def graph(seed: int) -> Graph:
        return Graph((Step("text", text, (), ("dog",)), Step("draw", draw, ("text",), (seed,))))

    kept: dict[str, object] = {}
    for seed in (1, 2, 2):
        graph(seed).run(kept)
    assert runs == ["text", "draw", "draw"]


def test_a_run_may_end_early_and_the_next_one_goes_on():
    runs: list[str] = []

    def text() -> int:
        runs.append("text")
        return 1

    kept: dict[str, object] = {}
    graph = Graph((Step("text", text), Step("two", double, ("text",))))
    assert graph.run(kept, until="text") == 1
    assert graph.run(kept) == 2
    assert runs == ["text"]
