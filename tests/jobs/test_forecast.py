import time

from aiprod_studio.jobs.forecast import Stopwatch, expect
from aiprod_studio.types import Progress


def test_earlier_clips_are_scaled_where_time_grows_with_the_clip():
    usual = {"load": 10.0, "denoise": 20.0, "save": 1.0}
    assert expect(60.0, usual, 30.0) == {"load": 10.0, "denoise": 40.0, "save": 2.0}
    assert expect(None, usual, 30.0) == usual


def test_without_an_earlier_clip_the_prediction_is_shared_out():
    assert abs(sum(expect(60.0, None, None).values()) - 60.0) < 1e-9
    assert expect(None, {}, None) == {}


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
