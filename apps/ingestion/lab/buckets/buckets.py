"""Makes the buckets that are not there yet."""

import json
import os
import sys
from pathlib import Path

import boto3
from botocore.config import Config

NAMES = sys.argv[1:]
keys = json.loads(Path(os.environ["S3_CREDENTIALS_FILE"]).read_text())
client = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT_URL"],
    aws_access_key_id=keys["username"],
    aws_secret_access_key=keys["password"],
    region_name="us-east-1",
    config=Config(retries={"mode": "standard", "max_attempts": 10}, connect_timeout=5),
)
there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for name in NAMES:
    if name not in there:
        client.create_bucket(Bucket=name)
    print(f"bucket {name}: {'was there' if name in there else 'made'}")
