import signal

import pytest

from infra.local.stack import interruptible, uninterrupted


@pytest.fixture
def hung_up():
    """The shell's nohup: the end of the session is ignored."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, earlier)


def test_a_request_to_end_is_ctrl_c_but_what_nohup_ignores_stays_ignored(hung_up):
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
