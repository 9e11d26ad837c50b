"""What stores answer when they refuse, as whoever asks a storage is told it."""

import os
import subprocess

import pytest

from tasks.storage_answers import CONFLICT_PAUSES
from tests.tasks.answering_s3 import done_at, s3_that_answers

TRIES = len(CONFLICT_PAUSES) + 1


def created_at(address: str) -> subprocess.CompletedProcess[str]:
    return done_at(address, "create('seal', b'me')")


@pytest.mark.parametrize(
    ("answers", "holds", "created"),
    [([409, 200], b"", "True"), ([409, 409, 412], b"another", "False"), ([500, 412], b"me", "True")],
    ids=["first", "second", "whose answer was lost"],
)
def test_a_conditional_write_that_meets_another_is_tried_again(answers, holds, created):
    with s3_that_answers(*answers, holds=holds) as (address, received):
        finished = created_at(address)
    assert finished.stdout.strip() == created, finished.stderr
    assert [condition for condition, _ in received] == ["*"] * len(answers)
    assert all(b"me" in content for _, content in received)


def test_a_conditional_write_that_always_meets_another_is_an_error_that_says_so():
    with s3_that_answers(*[409] * TRIES) as (address, received):
        finished = created_at(address)
    assert len(received) == TRIES
    message = finished.stderr.splitlines()[-1]
    assert message.startswith("tasks.storage_answers.StorageError: cannot write s3://bucket/seal: ")
    assert "others were writing it at each try (ConditionalRequestConflict)" in message


def test_folders_that_cannot_be_listed_for_want_of_credentials_are_an_error_that_says_so():
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    finished = done_at("http://127.0.0.1:1", "folders()", **nobody)
    message = finished.stderr.splitlines()[-1]
    assert message.startswith("tasks.storage_answers.StorageError: cannot list s3://bucket: no credentials"), (
        finished.stderr
    )
