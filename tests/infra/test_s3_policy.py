"""The policy's shape; tests/end_to_end/test_s3_policy.py runs under it."""

import json

import pytest


@pytest.fixture(scope="module")
def statements(infra):
    return json.loads((infra / "s3" / "policy.json").read_text())["Statement"]


def test_only_what_the_storage_does_is_allowed(statements):
    actions = set()
    for statement in statements:
        assert statement["Effect"] == "Allow"
        actions |= {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])
    assert actions == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}


def test_images_are_read_only(statements):
    for statement in statements:
        if "IMAGES_BUCKET" in json.dumps(statement["Resource"]):
            assert statement["Action"] in ("s3:ListBucket", "s3:GetObject")


def test_every_object_named_lies_below_its_prefix(statements):
    for statement in statements:
        named = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if statement["Action"] != "s3:ListBucket":
            assert all("_PREFIX}/" in resource for resource in named)


def test_of_a_batch_only_seal_arrays_and_pictures_may_be_deleted(statements):
    [deleted] = [statement["Resource"] for statement in statements if statement["Action"] == "s3:DeleteObject"]
    assert [resource.rpartition("_PREFIX}/")[2] for resource in deleted] == [
        *("*/seal.json", "*/maps.zarr/*", "*/report/images/*", "*/report/worst/*")
    ]
