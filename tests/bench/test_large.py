import sys

import pytest


def test_a_frame_of_which_the_grey_ones_cannot_be_cut_is_wrong_usage(tmp_path, monkeypatch, capsys):
    from large import GREY_SIDES, main

    too_small = max(GREY_SIDES) - 1
    monkeypatch.setattr(sys, "argv", ["large.py", "--out", str(tmp_path / "out"), "--side", str(too_small)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"--side {too_small} is less than {max(GREY_SIDES)}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
