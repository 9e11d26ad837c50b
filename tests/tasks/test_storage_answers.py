"""What stores answer when they refuse, as whoever asks a storage is told it."""

import errno
import os
import re
import subprocess

import pytest

from tasks.storage import Storage
from tasks.storage_answers import CONFLICT_PAUSES, OF_THE_SYSTEM, StorageError, storage_error
from tests.tasks.answering_s3 import CREDENTIALS, done_at, s3_that_answers, s3_that_refuses

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
    writes = [(condition, content) for condition, content in received if content]
    assert [condition for condition, _ in writes] == ["*"] * len(answers)
    assert all(b"me" in content for _, content in writes)


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
    assert message.startswith("tasks.storage_answers.NoAnswerError: cannot list s3://bucket: no credentials"), (
        finished.stderr
    )


@pytest.mark.parametrize(
    ("status", "code", "meaning", "advice"),
    [
        (403, "InvalidObjectState", "it lies in an archive", "have the store restore it first"),
        (400, "ExpiredToken", "the session's credentials have expired", "start the workers again with them"),
        (403, "RequestTimeTooSkewed", "the clock of the machine that asks is off", "set it"),
        (503, "SlowDown", "the store takes no more requests now", "run again later"),
        (503, "ServiceUnavailable", "the store takes no more requests now", "run again later"),
    ],
)
def test_an_answer_that_is_no_lack_of_rights_says_what_to_do_and_not_to_check_the_keys(status, code, meaning, advice):
    with s3_that_refuses(status, code) as address:
        finished = done_at(address, "read('image.png')", **CREDENTIALS, AWS_MAX_ATTEMPTS="1")
    message = finished.stderr.splitlines()[-1]
    assert f"cannot read s3://bucket/image.png: {meaning} ({code}): " in message, finished.stderr
    assert advice in message
    assert "AWS_ACCESS_KEY_ID" not in message


def test_a_lack_of_rights_says_to_check_the_keys():
    with s3_that_refuses(403, "AccessDenied") as address:
        finished = done_at(address, "read('image.png')")
    assert f"{address} refuses access (AccessDenied): check AWS_ACCESS_KEY_ID" in finished.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", OF_THE_SYSTEM)
def test_what_the_system_refuses_is_told_in_words_without_its_number_and_once(number):
    told = str(storage_error("cannot write /night/a", OSError(number, os.strerror(number), "/night/a")))
    assert told.count("/night/a") == 1
    assert "Errno" not in told
    assert re.search(": [a-z ,]+: [a-z ,]+|needed$", told)


def test_a_number_of_the_systems_without_words_of_ours_has_the_systems():
    told = str(storage_error("cannot read /night/a", OSError(errno.EIO, os.strerror(errno.EIO), "/night/a")))
    assert told == "cannot read /night/a: Input/output error"


def test_a_file_that_cannot_be_put_in_its_place_is_told_with_that_place_and_not_with_its_partial_name(tmp_path):
    (tmp_path / "n" / "seal.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot write .*/n/seal\.json: it is a folder, where a file is needed$"):
        Storage(str(tmp_path)).write("n/seal.json", b"")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_without_its_scheme_is_told_by_its_variable(variable):
    finished = done_at("http://127.0.0.1:1", "read('image.png')", **{**CREDENTIALS, variable: "127.0.0.1:5599"})
    assert f"127.0.0.1:5599: give {variable} with http://" in finished.stderr.splitlines()[-1]
