"""A batch with the rights of infra/s3/policy.json and no others.

radosgw checks the whole policy; moto, which is always there, all but its condition.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from io import BytesIO
from string import Template

import botocore.session
import pytest
from PIL import Image

from ssdnet_core.synthetic import sample
from tests.conftest import QUICK, ROOT
from tests.end_to_end.radosgw import create_user, radosgw

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_server")]

NAMES = {
    "IMAGES_BUCKET": "policy-images",
    "IMAGES_PREFIX": "line-1",
    "RESULTS_BUCKET": "policy-results",
    "RESULTS_PREFIX": "lab",
}


def policy(*, conditions: bool) -> str:
    document = json.loads(Template((ROOT / "infra" / "s3" / "policy.json").read_text()).substitute(NAMES))
    for statement in document["Statement"]:
        if not conditions:
            statement.pop("Condition", None)
        if statement["Action"] == "s3:DeleteObject":
            # Both check the deletion of several objects at once against the bucket, AWS against each object.
            statement["Resource"].append(f"arn:aws:s3:::{NAMES['RESULTS_BUCKET']}")
    return json.dumps(document)


@dataclass
class Store:
    """A store with the two buckets: its administrator, and the environment of who has the policy's rights."""

    administrator: dict[str, str]
    inspector: dict[str, str]
    checks_conditions: bool

    def client(self, environment: dict[str, str], service: str = "s3"):
        return botocore.session.get_session().create_client(
            service,
            region_name=environment["AWS_DEFAULT_REGION"],
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

    def put_images(self, folder: str, numbers: range) -> None:
        s3 = self.client(self.administrator)
        for number in numbers:
            buffer = BytesIO()
            Image.fromarray(sample("tile", "none", size=(96, 96), seed=number).pixels).save(buffer, "PNG")
            s3.put_object(Bucket="policy-images", Key=f"{folder}/{number}.png", Body=buffer.getvalue())

    def inspect(self, source: str, results: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows", "inspect", source, "--results", results, "--workers", "1", "--json"]
        environment = {**os.environ, **self.inspector, **changes}
        return subprocess.run([*command, *QUICK], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def moto_store(s3_server):
    root = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    iam = Store(root, root, checks_conditions=False).client(root, "iam")
    everything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}],
    }
    users = {}
    for name, document in (("owner", json.dumps(everything)), ("inspector", policy(conditions=False))):
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        users[name] = {
            **root,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def authorise_after(requests: str) -> None:
        plain = {"Content-Type": "text/plain"}
        where = f"{s3_server}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(where, data=requests.encode(), headers=plain)).close()

    authorise_after("0")
    yield Store(users["owner"], users["inspector"], checks_conditions=False)
    authorise_after("inf")


@pytest.fixture(scope="module")
def radosgw_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "radosgw"
    with radosgw(folder) as administrator:
        inspector = {**administrator, "AWS_ACCESS_KEY_ID": "INSPECTOR", "AWS_SECRET_ACCESS_KEY": "inspector-secret"}
        create_user(folder, "inspector", key="INSPECTOR", secret="inspector-secret")
        store = Store(administrator, inspector, checks_conditions=True)
        store.client(administrator, "iam").put_user_policy(
            UserName="inspector", PolicyName="policy", PolicyDocument=policy(conditions=True)
        )
        yield store


@pytest.fixture(scope="module", params=["moto", "radosgw"])
def store(request):
    store = request.getfixturevalue(f"{request.param}_store")
    s3 = store.client(store.administrator)
    for bucket in ("policy-images", "policy-results"):
        s3.create_bucket(Bucket=bucket)
    store.put_images("line-1/night", range(2))
    store.put_images("line-2/night", range(1))
    return store


def test_a_batch_begins_grows_and_is_done_with_the_policy_s_rights(store):
    command = ("s3://policy-images/line-1/night", "s3://policy-results/lab")
    first = store.inspect(*command)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["inspected"] == 2
    # Breaks the seal, writes the figures of every image again, and deletes what is no longer among the worst.
    store.put_images("line-1/night", range(2, 3))
    worst = {"Bucket": "policy-results", "Prefix": "lab/policy-images-line-1-night/report/worst/"}
    administrator = store.client(store.administrator)
    administrator.put_object(Bucket=worst["Bucket"], Key=f"{worst['Prefix']}0000009.jpg", Body=b"of an earlier drawing")
    grown = store.inspect(*command)
    assert grown.returncode == 0, grown.stderr
    assert json.loads(grown.stdout)["fitted"] == 1
    assert administrator.list_objects_v2(**worst)["KeyCount"] == 3
    again = store.inspect(*command)
    assert json.loads(again.stdout)["fitted"] == 0


def test_results_beside_the_policy_s_prefix_are_refused_and_the_command_says_why(store):
    refused = store.inspect("s3://policy-images/line-1/night", "s3://policy-results/elsewhere")
    assert refused.returncode == 1
    # To read what is not there radosgw does not refuse.
    assert re.search("cannot (read|write) s3://policy-results/elsewhere/", refused.stderr)
    assert "refuses access (AccessDenied)" in refused.stderr
    assert "what their policy allows" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_another_line_s_images_are_refused(store):
    refused = store.inspect("s3://policy-images/line-2/night", "s3://policy-results/lab")
    assert "Traceback" not in refused.stderr
    if store.checks_conditions:
        assert refused.returncode == 1
        assert "cannot list s3://policy-images/line-2/night" in refused.stderr
        assert "AccessDenied" in refused.stderr
    else:  # listed, but not read: each image fails by itself
        assert json.loads(refused.stdout)["inspected"] == 0


@pytest.mark.parametrize(
    ("operation", "where"),
    [
        ("put_object", {"Bucket": "policy-images", "Key": "line-1/new.png"}),
        ("delete_object", {"Bucket": "policy-images", "Key": "line-1/night/0.png"}),
        ("delete_object", {"Bucket": "policy-results", "Key": "lab/policy-images-line-1-night/manifest.json"}),
        ("delete_object", {"Bucket": "policy-results", "Key": "lab/policy-images-line-1-night/records/0000000.json"}),
        ("put_bucket_versioning", {"Bucket": "policy-results", "VersioningConfiguration": {"Status": "Enabled"}}),
        ("delete_bucket", {"Bucket": "policy-results"}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("Key", "bucket"),
)
def test_what_a_run_does_not_do_it_may_not_do(store, operation, where):
    client = store.client(store.inspector)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        getattr(client, operation)(**where)


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "UNKNOWN"}], ids=["secret", "key"]
)
def test_wrong_credentials_are_refused_naming_endpoint_and_settings(store, wrong):
    code = "from tasks.storage import Storage; Storage('s3://policy-images/line-1').list()"
    refused = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **store.inspector, **wrong}, capture_output=True, text=True
    )
    message = refused.stderr.splitlines()[-1]
    assert message.startswith("tasks.storage_answers.StorageError: cannot list s3://policy-images/line-1: ")
    assert f"{store.inspector['AWS_ENDPOINT_URL']} refuses access" in message
    assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message


# Against moto, test_object_storage.py has it.
@pytest.mark.parametrize("store", ["radosgw"], indirect=True)
def test_of_many_writers_of_one_object_one_creates_it(store):
    code = (
        "import sys; from tasks.storage import Storage; "
        "print(Storage('s3://policy-results/lab/race').create('seal.json', sys.argv[1].encode()))"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            env={**os.environ, **store.inspector},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    answers = [writer.communicate()[0].strip() for writer in writers]
    assert sorted(answers) == ["False", "False", "False", "True"]
