from flows.progress import observed_by, observer


class Heard:
    def __init__(self):
        self.stages = []

    def stage(self, name):
        self.stages.append(name)


def test_all_who_watch_are_told():
    outer, inner = Heard(), Heard()
    with observed_by(outer):
        with observed_by(inner):
            observer().stage("inside")
        observer().stage("outside")
    observer().stage("later")
    assert (outer.stages, inner.stages) == (["inside", "outside"], ["inside"])
