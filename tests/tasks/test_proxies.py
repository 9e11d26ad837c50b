import pytest

from tasks.proxies import reached_directly


@pytest.mark.parametrize(
    ("upper", "lower", "direct"),
    [
        ("", "", "localhost"),
        ("plant.example", "", "plant.example,localhost"),
        ("", "plant.example", "plant.example,localhost"),
        ("a.example, b.example", "b.example,localhost", "a.example,b.example,localhost"),
        ("*", "", "*,localhost"),
        ("[::1], localhost", "", "::1,localhost"),
    ],
)
def test_what_the_user_reaches_directly_in_either_spelling_stays_so(monkeypatch, upper, lower, direct):
    monkeypatch.setenv("NO_PROXY", upper)
    monkeypatch.setenv("no_proxy", lower)
    assert reached_directly("localhost") == {"NO_PROXY": direct, "no_proxy": direct}
