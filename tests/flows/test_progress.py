from flows.progress import Observer, observed_by, observer
from tests.flows.heard import Heard


def test_all_who_watch_are_told():
    outer, inner = Heard(), Heard()
    with observed_by(outer):
        with observed_by(inner):
            observer().stage("inside")
        observer().stage("outside")
    observer().stage("later")
    assert (outer.stages, inner.stages) == (["inside", "outside"], ["inside"])


def test_all_that_an_observer_wants_to_know_is_passed_on():
    heard = Heard()
    with observed_by(heard):
        observer().begin(images=3, settled=1)
        observer().inspected("a record")
        observer().waiting(done=1, nights=2, running=["line-1, 2026-11-22"], queued=["line-2, 2026-11-22 (Late)"])
        observer().hint("look at the pool")
        observer().ended("an outcome")
    assert heard.told == [
        {"images": 3, "settled": 1},
        "a record",
        {"done": 1, "nights": 2, "running": ["line-1, 2026-11-22"], "queued": ["line-2, 2026-11-22 (Late)"]},
        "look at the pool",
        "an outcome",
    ]


def test_an_observer_takes_up_what_it_wants_and_nothing_comes_of_the_rest():
    class Stages(Observer):
        def stage(self, name):
            stages.append(name)

    stages = []
    with observed_by(Stages()):
        observer().begin(images=3, settled=1)
        observer().inspected("a record")
        observer().stage("inspecting")
        observer().waiting(done=1, nights=2, running=[], queued=[])
        observer().hint("look at the pool")
        observer().ended("an outcome")
    assert stages == ["inspecting"]
