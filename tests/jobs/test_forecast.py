import time

from aiprod_studio.jobs.forecast import Earlier, Stopwatch, expect
from aiprod_studio.types import Progress


def test_earlier_clips_are_scaled_where_time_grows_with_the_clip():
    usual = {"load": 10.0, "denoise": 20.0, "save": 1.0}
    assert expect(60.0, [Earlier(usual, 30.0)]) == {"load": 10.0, "denoise": 40.0, "save": 2.0}
    assert expect(None, [Earlier(usual, 30.0)]) == usual


def test_a_clip_that_was_slow_by_chance_does_not_set_the_next_estimate():
    usual = [Earlier({"load": 2.0, "denoise": 20.0}, 30.0) for _ in range(3)]
    slow = Earlier({"load": 90.0, "denoise": 600.0, "save": 9.0}, 30.0)
    told = {"load": 2.0, "denoise": 20.0, "save": 0.0}
    assert expect(30.0, [slow, *usual]) == told
    assert expect(30.0, [slow]) == slow.took


def test_clips_of_another_number_of_stages_tell_nothing():
    two = Earlier({"denoise": 10.0, "refine": 40.0}, 60.0)
    one = Earlier({"denoise": 5.0}, 60.0)
    assert expect(60.0, [one, two], refined=30.0) == two.took
    assert expect(60.0, [one, two]) == one.took
    assert expect(60.0, [one], refined=30.0)["refine"] == 30.0


def test_without_an_earlier_clip_the_prediction_is_shared_out():
    assert abs(sum(expect(60.0, []).values()) - 60.0) < 1e-9
    assert expect(None, []) == {}
    assert expect(None, [Earlier({}, 1.0)]) == {}


def test_all_phases_count_and_measured_steps_win():
    watch = Stopwatch({"load": 5.0, "denoise": 100.0, "decode": 3.0, "save": 1.0})
    assert 108 < watch.mark(Progress("load", 0, 1)) <= 109
    watch.mark(Progress("denoise", 0, 4))
    time.sleep(0.05)
    left = watch.mark(Progress("denoise", 1, 4))
    assert 4.15 < left < 20
    assert watch.mark(Progress("save", 1, 1)) < 1
    assert watch.stop().keys() == {"load", "denoise", "save"}
    assert watch.spent["denoise"] >= 0.05


def test_a_clip_that_goes_on_counts_only_its_own_steps():
    watch = Stopwatch({})
    assert watch.mark(Progress("denoise", 90, 100)) is None
    time.sleep(0.05)
    assert 0.4 < watch.mark(Progress("denoise", 91, 100)) < 3
