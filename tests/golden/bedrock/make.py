#!/usr/bin/env python3
"""Makes sigv4.json beside this file: requests signed by botocore's own SigV4Auth, with the service name and
double-encoded canonical path that its bedrock-runtime client uses. Run once with any Python that has boto3:

    python tests/golden/bedrock/make.py
"""
import json
import pathlib
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

DATE = "20150830T123600Z"
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
BODY = '{"messages":[{"role":"user","content":[{"text":"h\u00e9"}]}]}'
KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def golden(name, model, operation, region, token=None, host=None, base=""):
    host = host or f"bedrock-runtime.{region}.amazonaws.com"
    path = f"{base}/model/{quote(model, safe='-_.~')}/{operation}"
    request = AWSRequest("POST", f"https://{host}{path}", data=BODY.encode())
    request.headers["content-type"] = "application/json"
    request.context["timestamp"] = DATE
    auth = SigV4Auth(Credentials(*KEYS, token), "bedrock", region)
    request.headers["X-Amz-Date"] = DATE
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    auth._inject_signature_to_request(request, signature)
    return {"name": name, "model": model, "operation": operation, "region": region, "token": token, "host": host,
            "base": base, "path": path, "canonical": canonical, "authorization": request.headers["Authorization"]}


goldens = [
    golden("profile id", "eu.amazon.nova-micro-v1:0", "converse", "eu-central-1"),
    golden("application inference profile", ARN, "converse-stream", "eu-central-1"),
    golden("temporary keys", "eu.amazon.nova-micro-v1:0", "converse", "eu-west-1", token="token/with+signs=="),
    golden("own endpoint", ARN, "converse", "us-east-1", host="vpce-1.example:8443", base="/proxy"),
]
out = {"date": DATE, "unix": 1440938160, "body": BODY, "access_key_id": KEYS[0], "secret": KEYS[1], "goldens": goldens}
pathlib.Path(__file__).with_name("sigv4.json").write_text(json.dumps(out, indent=1) + "\n")
