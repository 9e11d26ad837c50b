"""An observer that keeps what it is told."""

from flows.progress import Observer


class Heard(Observer):
    def __init__(self):
        self.stages = []
        self.told = []

    def stage(self, name):
        self.stages.append(name)

    def begin(self, **told):
        self.told.append(told)

    def waiting(self, **told):
        self.told.append(told)

    def hint(self, text):
        self.told.append(text)

    def inspected(self, record):
        self.told.append(record)

    def ended(self, result):
        self.told.append(result)
