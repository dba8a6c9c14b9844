"""Runs `weir` (argv[1]) in argv[2] with credentials that expire, against fakes of who gives them out and the rigs that
.ci/providers has started: AWS's metadata service, a container's endpoint, STS, profiles; Entra ID, Azure's metadata
service, App Service. Every signature and every bearer is judged by the rigs; the secrets are nowhere."""
import hashlib, json, os, pathlib, re, subprocess, sys, threading, time, urllib.error, urllib.request
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

WEIR, DIR = sys.argv[1], pathlib.Path(sys.argv[2])
BEDROCK, AZURE, FAKE = "http://127.0.0.1:19401", "http://127.0.0.1:19404", "http://127.0.0.1:19410"
GATE, ADMIN = "http://127.0.0.1:19411", "http://127.0.0.1:19412"
SECRETS = ["secretEXAMPLE", "secretTEMP", "tokenTEMP", "entra-token-TEST", "canary"]
PLAIN = {"PATH": os.environ["PATH"], "HOME": str(DIR), "AWS_REGION": "eu-central-1", "AWS_BEDROCK_RUNTIME_ENDPOINT": BEDROCK}
NO_IMDS = {"AWS_EC2_METADATA_DISABLED": "true"}
TEMP, PERMANENT = ("ASIATEMP", "secretTEMP", "tokenTEMP"), ("AKIDEXAMPLE", "secretEXAMPLE", "")
asked, seen = [], []                            # of the fakes; what a client or an operator could read
lives = {"aws": 3600, "entra": 3600}            # seconds that what is given out is good for
current = {"aws": TEMP, "up": True}

def until(seconds): return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

def given():
    id, secret, token = current["aws"]
    return {"AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": until(lives["aws"])}

def signed(request, body):
    """Whether botocore would sign what came over the wire in the same way."""
    names = re.search("SignedHeaders=([^,]+)", request.headers["authorization"])[1].split(";")
    class Same(SigV4Auth):
        def headers_to_sign(self, made):
            out = HTTPHeaders()
            for name in names: out[name] = request.headers[name]
            return out
        def payload(self, made): return hashlib.sha256(body.encode()).hexdigest()
    made = AWSRequest("POST", FAKE + request.path, data=body)
    made.context["timestamp"] = request.headers["x-amz-date"]
    signer = Same(Credentials("AKIDEXAMPLE", "secretEXAMPLE"), "sts", "eu-central-1")
    text = signer.string_to_sign(made, signer.canonical_request(made))
    return request.headers["authorization"].endswith(signer.signature(text, made))

class Fake(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self): self.do()
    def do_PUT(self): self.do()
    def do_POST(self): self.do()

    def do(self):
        self.body = body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        url = urlsplit(self.path)
        form = {name: values[0] for name, values in parse_qs(body or url.query).items()}
        status, answer = self.answered(url.path, form)
        asked.append((url.path, form, status))
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "text/xml" if data.startswith(b"<") else "application/json")
        if "api/token" in url.path: self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answered(self, path, form):
        header, role = self.headers.get, "/latest/meta-data/iam/security-credentials"
        if not current["up"]: return 500, {}
        if path == "/latest/api/token":         # IMDSv2: PUT, a ttl, then the token with everything
            return (200, "session-canary") if self.command == "PUT" and header("x-aws-ec2-metadata-token-ttl-seconds") else (400, "")
        if path.startswith("/latest/"):
            if header("x-aws-ec2-metadata-token") != "session-canary": return 401, ""
            return (200, "the-role") if path.rstrip("/").endswith("security-credentials") else (200, {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": until(0), **given()})
        if path == "/ecs": return (200, given()) if header("authorization") == "ecs-canary" else (403, {"code": "AccessDenied", "message": "no"})
        if form.get("Action") == "AssumeRoleWithWebIdentity":
            if form["WebIdentityToken"] != "web-identity-canary":
                return 400, "<ErrorResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired: current date/time must be before the expiration</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            id, secret, token = current["aws"]
            return 200, f"<AssumeRoleWithWebIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{until(lives['aws'])}</Expiration></Credentials></AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>"
        if form.get("Action") == "AssumeRole":
            if not signed(self, self.body): return 403, "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error></ErrorResponse>"
            id, secret, token = current["aws"]
            return 200, f"<AssumeRoleResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><AssumeRoleResult><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{until(lives['aws'])}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"
        token = {"token_type": "Bearer", "access_token": "entra-token-TEST"}
        if path == "/t-1/oauth2/v2.0/token":
            good = form.get("client_secret") == "app-canary" or (form.get("client_assertion") == "cluster-canary" and form["client_assertion_type"].endswith("jwt-bearer"))
            if not good: return 401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1"}
            return 200, {**token, "expires_in": lives["entra"]}
        if path == "/metadata/identity/oauth2/token" and header("metadata") == "true": return 200, {**token, "expires_in": "3599"}
        if path == "/msi/token" and header("x-identity-header") == "msi-canary": return 200, {**token, "expires_on": str(int(time.time()) + 3600)}
        return 404, {}

def is_(what, got, want):
    if got != want: sys.exit(f"{what}:\n  got  {got!r}\n  want {want!r}")

def has(what, text, part):
    if part not in (text or ""): sys.exit(f"{what}:\n  {text!r}\n  lacks {part!r}")

def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer: return json.load(answer)

def ask(model):
    """(status, text)"""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
    request = urllib.request.Request(GATE + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    try: answer = urllib.request.urlopen(request, timeout=15)
    except urllib.error.HTTPError as error: answer = error
    text = answer.read().decode()
    seen.append(f"{answer.headers} {text}")
    return answer.status, text

def file(*models):
    """Each model as (identifier, line, …)."""
    tables = "".join(f'[models.m{i}]\nidentifier = "{id}"\n' + "".join(line + "\n" for line in lines) for i, (id, *lines) in enumerate(models))
    path = DIR / "credentials.toml"
    path.write_text(f'[server]\nlisten = "127.0.0.1:19411"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:19412"\n[telemetry]\nlevel = "trace"\n{tables}')
    return path

def run(command, path, env):
    done = subprocess.run([WEIR, command, "--config", str(path)], env={**PLAIN, **env}, capture_output=True, text=True, timeout=50)
    seen.append(done.stdout + done.stderr)
    return done.stdout + done.stderr

def probed(what, models, env, said):
    """`weir probe` says this of every model."""
    text = run("probe", file(*models), env)
    lines = [line for line in text.splitlines() if line.startswith("m") and " http" in line]
    is_(what + ": rows", len(lines), len(models))
    for line in lines: has(f"{what}\n{text}", line, said)

class Serving:
    def __init__(self, path, env, *more):
        self.log = open(DIR / "credentials.err", "a")
        self.weir = subprocess.Popen([WEIR, "serve", "--config", str(path)], env={**PLAIN, **env}, stdout=self.log, stderr=self.log)
    def __enter__(self):
        for _ in range(200):
            if self.weir.poll() is not None: sys.exit((DIR / "credentials.err").read_text())
            try: get(ADMIN + "/status"); return self
            except OSError: time.sleep(0.05)
        sys.exit("it does not serve")
    def __exit__(self, *failed):
        self.weir.terminate()
        if self.weir.wait(10) and not failed[0]: sys.exit("it did not end well")

NOVA = ("bedrock/eu.amazon.nova-micro-v1:0",)

def aws_sources():
    (DIR / "web-identity").write_text("web-identity-canary")
    (DIR / "expired").write_text("old-canary")
    (DIR / "aws-credentials").write_text("[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secretEXAMPLE\n"
        f"[process]\ncredential_process = {sys.executable} {DIR}/process.py\n[role]\nrole_arn = arn:aws:iam::123456789012:role/weir\nsource_profile = default\n[stale]\naws_access_key_id = AKIDNOPE\naws_secret_access_key = x-canary\n")
    (DIR / "process.py").write_text(f"import json; print(json.dumps({{'Version': 1, 'AccessKeyId': 'ASIATEMP', 'SecretAccessKey': 'secretTEMP', 'SessionToken': 'tokenTEMP', 'Expiration': '{until(3600)}'}}))")
    profiles = {"AWS_SHARED_CREDENTIALS_FILE": str(DIR / "aws-credentials"), "AWS_CONFIG_FILE": str(DIR / "none"), **NO_IMDS}
    web = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/weir", "AWS_ENDPOINT_URL_STS": FAKE, **NO_IMDS}
    sources = {
        "instance metadata": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": FAKE},
        "a container's role": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": FAKE + "/ecs", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "ecs-canary", **NO_IMDS},
        "web identity": {"AWS_WEB_IDENTITY_TOKEN_FILE": str(DIR / "web-identity"), **web},
        "the default profile": profiles, "a credential process": {"AWS_PROFILE": "process", **profiles},
        "a profile's role": {"AWS_PROFILE": "role", "AWS_ENDPOINT_URL_STS": FAKE, **profiles},
    }
    for what, env in sources.items(): probed(what, [NOVA], env, "ok: 30 bytes")
    faults = {
        "nobody": (NO_IMDS, "no credentials found in chain"),
        "a denied container": ({**sources["a container's role"], "AWS_CONTAINER_AUTHORIZATION_TOKEN": "x-canary"}, "403"),
        "an expired web identity": ({**web, "AWS_WEB_IDENTITY_TOKEN_FILE": str(DIR / "expired")}, "Token expired"),
        "no such profile": ({"AWS_PROFILE": "nope", **profiles}, "nope"),
        "a stale profile": ({"AWS_PROFILE": "stale", **profiles}, "does not know the access key"),
    }
    for what, (env, said) in faults.items(): probed(what, [NOVA], env, said)
    has("check", run("check", file(NOVA), sources["web identity"]), "AWS's credential chain")
    print(f"aws: {', '.join(sources)} sign as botocore does; {', '.join(faults)} are told")

def aws_rotation():
    before = len(get(BEDROCK + "/_log"))
    used = lambda: [entry.get("headers", {}).get("authorization", "")[:44] for entry in get(BEDROCK + "/_log")[before:]]
    lives["aws"] = 12
    with Serving(file(NOVA), {"AWS_EC2_METADATA_SERVICE_ENDPOINT": FAKE}):
        is_("at once", ask("m0")[0], 200)
        current["aws"], lives["aws"] = PERMANENT, 3600
        end = time.time() + 14
        while time.time() < end:
            status, text = ask("m0")
            is_("while keys rotate: " + text, status, 200)
            time.sleep(0.1)
    keys = [key for key in used() if key]
    assert any("ASIATEMP" in key for key in keys) and "AKIDEXAMPLE" in keys[-1], keys[-3:]
    print(f"rotation: {len(keys)} requests over a change of keys, none refused")

def old_keys_serve_on():
    current["aws"], lives["aws"] = TEMP, 20
    with Serving(file(NOVA), {"AWS_EC2_METADATA_SERVICE_ENDPOINT": FAKE}):
        is_("at once", ask("m0")[0], 200)
        current["up"] = False
        time.sleep(17.5)                        # the refresh at 16 s fails
        is_("the old ones are good", ask("m0")[0], 200)
        time.sleep(3.5)
        status, text = ask("m0")
        is_("they have expired", status, 503)
        has("they have expired", text, "AWS credentials"); has("they have expired", text, "no_credentials")
        current["up"] = True
        time.sleep(6)                           # the interval between two attempts
        is_("it comes back", ask("m0")[0], 200)
    lives["aws"] = 3600
    print("metadata down: the keys serve until they expire, then 503 no_credentials, then it comes back")

def models_of_requests():
    """Nothing of AWS is asked before a request needs it."""
    del asked[:]
    with Serving(file(), {"AWS_EC2_METADATA_SERVICE_ENDPOINT": FAKE}):
        time.sleep(1)
        is_("asked without need", asked, [])
        body = {"inputs": {}, "model_metadata": {"name": "claude_3", "endpoint": "http://dummy", "provider": "openai", "identifier": "bedrock/x"}}
        request = urllib.request.Request(GATE + "/v1/prompts/model_configuration%2Fcheck", json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=15) as answer: is_("the first request", answer.status, 200)
    print("requests: the chain is asked when the first request names a Bedrock model, which waits for it")

def entra():
    (DIR / "cluster-token").write_text("cluster-canary\n")
    def azure(entra, version="v1"): return ("azure/gpt", f'endpoint = "{AZURE}"', f'api_version = "{version}"', *([f"entra = {{ {entra} }}"] if entra else []))
    authority = {"AZURE_AUTHORITY_HOST": FAKE, "APP": "app-canary", "WRONG": "x-canary"}
    app = 'tenant = "t-1", client_id = "c-1", client_secret = { env = "%s" }'
    workload = {"AZURE_TENANT_ID": "t-1", "AZURE_CLIENT_ID": "c-1", "AZURE_FEDERATED_TOKEN_FILE": str(DIR / "cluster-token"), **authority}
    del asked[:]
    probed("an application", [azure(app % "APP"), azure(app % "APP", "2024-10-21")], authority, "ok: 30 bytes")
    is_("scopes", {form["scope"] for _, form, _ in asked}, {"https://ai.azure.com/.default", "https://cognitiveservices.azure.com/.default"})
    probed("workload identity", [azure(""), azure('identity = "workload"')], workload, "ok: 30 bytes")
    probed("managed identity", [azure('identity = "managed", client_id = "c-2"')], {"AZURE_POD_IDENTITY_AUTHORITY_HOST": FAKE}, "ok: 30 bytes")
    is_("the resource", (asked[-1][1]["resource"], asked[-1][1]["client_id"]), ("https://ai.azure.com", "c-2"))
    probed("App Service", [azure("")], {"IDENTITY_ENDPOINT": FAKE + "/msi/token", "IDENTITY_HEADER": "msi-canary"}, "ok: 30 bytes")
    probed("a wrong secret", [azure(app % "WRONG")], authority, "AADSTS7000215: Invalid client secret provided.")
    probed("no authority", [azure(app % "APP")], {**authority, "AZURE_AUTHORITY_HOST": "http://127.0.0.1:1"}, "refused")
    probed("no token file", [azure("")], {**workload, "AZURE_FEDERATED_TOKEN_FILE": str(DIR / "none")}, "No such file")
    for entry in get(AZURE + "/_log")[-12:]:
        assert not ("api-key" in entry["headers"] and "authorization" in entry["headers"]), entry["headers"].keys()
    lives["entra"] = 12
    with Serving(file(azure("")), workload):
        is_("at once", ask("m0")[0], 200)
        (DIR / "cluster-token").write_text("other-canary")      # read anew: the next attempt is refused
        time.sleep(10.5)
        is_("the old token is good", ask("m0")[0], 200)
        time.sleep(2)
        status, text = ask("m0")
        is_("it has expired", status, 503); has("it has expired", text, "Entra ID token")
        (DIR / "cluster-token").write_text("cluster-canary")
        time.sleep(6)
        is_("it comes back", ask("m0")[0], 200)
    print("entra: an application, workload and managed identity, App Service; the token's file is read anew; faults are told")

fake = ThreadingHTTPServer(("127.0.0.1", 19410), Fake)
threading.Thread(target=fake.serve_forever, daemon=True).start()
started = time.time()
for part in (aws_sources, aws_rotation, old_keys_serve_on, models_of_requests, entra): part()
everything = "\n".join(seen + [(DIR / "credentials.err").read_text()])
for secret in SECRETS: assert secret not in everything, everything[max(0, everything.index(secret) - 300):][:600]
print(f"secrets: none of {len(SECRETS)} in {len(everything)} characters of answers, logs and commands; {time.time() - started:.0f} s")
