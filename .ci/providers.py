"""Runs `weir` (argv[1]) in argv[2] against the rigs that .ci/providers has started: every model on every surface
that reaches it, what the operator is told, and the secrets nowhere."""
import anthropic, anthropic_client
import json, os, pathlib, re, subprocess, sys, time, urllib.error, urllib.request

WEIR, DIR = sys.argv[1], pathlib.Path(sys.argv[2])
GATE, ADMIN = "http://127.0.0.1:19406", "http://127.0.0.1:19407"
BEDROCK, PINNED, SKEWED, AZURE, ODD = (f"http://127.0.0.1:{port}" for port in range(19401, 19406))
SECRETS = ["secretEXAMPLE", "secretTEMP", "tokenTEMP", "bedrock-api-key-TEST", "azure-key-TEST", "canary"]
ENV = {"PATH": os.environ["PATH"], "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
       "AWS_SECRET_ACCESS_KEY": "secretEXAMPLE", "AWS_BEDROCK_RUNTIME_ENDPOINT": BEDROCK,
       "TEMP_SECRET": "secretTEMP", "TEMP_TOKEN": "tokenTEMP", "BEDROCK_KEY": "bedrock-api-key-TEST",
       "AZURE_KEY": "azure-key-TEST", "WRONG": "wrong-canary"}
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2c3"
WORDS = "word0 word1 word2 word3 word4 "
seen = []                                       # everything a client or an operator could read


def keys(id, secret, token=None):
    lines = f'access_key_id = "{id}"\nsecret_access_key = {{ env = "{secret}" }}\n'
    return lines + (f'session_token = {{ env = "{token}" }}\n' if token else "")

def bedrock(id, *lines): return "\n".join([f'identifier = "bedrock/{id}"', *lines])

def azure(deployment, version="v1", key="AZURE_KEY", path=""):
    return f'identifier = "azure/{deployment}"\nendpoint = "{AZURE}{path}"\napi_version = "{version}"\napi_key = {{ env = "{key}" }}'

TEMP, AT = keys("ASIATEMP", "TEMP_SECRET", "TEMP_TOKEN"), lambda url: f'endpoint = "{url}"'
GOOD = {
    "nova": bedrock("eu.amazon.nova-micro-v1:0"), "arn": bedrock(ARN), "converse": bedrock("converse/meta.llama3-v1:0"),
    "west": bedrock("us-west-2/meta.llama3-v1:0"), "split": bedrock("split"),
    "bearer": bedrock("x", 'api_key = { env = "BEDROCK_KEY" }'), "temporary": bedrock("x", TEMP),
    "pinned": bedrock("x", 'region = "us-east-1"', AT(PINNED)), "skewed": bedrock("x", AT(SKEWED)),
    "behind-proxy": bedrock("x", AT(BEDROCK), 'signing_host = "bedrock-runtime.eu-central-1.amazonaws.com"'),
    "guarded": bedrock("x", 'guardrail = { identifier = "abc123", version = "1", trace = "enabled" }'),
    "gpt": azure("gpt"), "gpt-v1-path": azure("gpt", path="/openai/v1/"), "gpt-preview": azure("gpt", "preview"),
    "gpt-dated": azure("gpt", "2025-02-01-preview"),
}
# name: (table, status, what the operator is told)
BAD = {
    "wrong-secret": (bedrock("x", keys("AKIDEXAMPLE", "WRONG")), 403, "secret access key does not belong"),
    "wrong-key": (bedrock("x", keys("AKIDNOPE", "WRONG")), 403, "does not know the access key"),
    "wrong-token": (bedrock("x", keys("ASIATEMP", "TEMP_SECRET", "WRONG")), 403, "session token is missing or wrong"),
    "wrong-bearer": (bedrock("x", 'api_key = { env = "WRONG" }'), 403, "API key is wrong or has expired"),
    "wrong-region": (bedrock("x", AT(PINNED)), 403, "set the model's region to the endpoint's"),
    "expired": (bedrock("expired", TEMP, AT(ODD)), 403, "temporary credentials have expired"),
    "throttle": (bedrock("throttle"), 429, "quota for this model is used up"),
    "denied": (bedrock("denied"), 403, "request access in the Bedrock console"),
    "validation": (bedrock("validation"), 400, "no such model id in this region"),
    "notfound": (bedrock("notfound"), 404, "check the identifier and the region"),
    "notready": (bedrock("notready"), 429, "being loaded"),
    "unavailable": (bedrock("unavailable"), 503, "problem of its own"),
    "internal": (bedrock("internal"), 500, "problem of its own"),
    "timeout": (bedrock("timeout"), 408, "longer than Bedrock lets it"),
    "first": (bedrock("first", AT(ODD)), 429, "quota for this model is used up"),
    "az-wrong-key": (azure("gpt", key="WRONG"), 401, "refused the key"),
    "az-limit": (azure("limit"), 429, "limit of tokens or requests per minute"),
    "az-missing": (azure("missing"), 404, "azure/<deployment>, not the model's name"),
    "az-filter": (azure("filter"), 400, "content filter refused the prompt"),
    "az-internal": (azure("internal"), 500, "problem of its own"),
    "az-busy": (azure("busy"), 503, "problem of its own"),
}
# name: (table, what the operator is told): these break after the first token, and only when streamed
BREAKS = {
    "midstream": (bedrock("midstream"), "quota for this model is used up"), "cut": (bedrock("cut"), ""),
    "badcrc": (bedrock("badcrc"), ""), "az-cut": (azure("cut"), ""), "az-err": (azure("err"), ""),
}
TABLES = {**GOOD, "tool": bedrock("tool"), "page": bedrock("page", AT(ODD)), **{name: row[0] for name, row in (BAD | BREAKS).items()}}


def config(default):
    tables = "".join(f"[models.{name}]\n{table}\n" for name, table in TABLES.items())
    return (f'[server]\nlisten = "127.0.0.1:19406"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:19407"\n{tables}'
            f'[features]\nrequest_loopback = true\n' + (f'default = "{default}"\n' if default else ""))

def post(path, body, base=GATE):
    """(status, headers, body, cut)"""
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try: answer = urllib.request.urlopen(request, timeout=15)
    except urllib.error.HTTPError as error: answer = error
    data, cut = b"", False
    try:
        while piece := answer.read1(65536): data += piece
    except Exception: cut = True                # http.client.IncompleteRead: no end of the chunked body
    text = data.decode()
    seen.append(f"{path} {answer.headers} {text}")
    return answer.status, answer.headers, text, cut

def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer: return json.load(answer)

def agent(stream, payload={}, base=GATE):
    payload = {"content": "Hello", "params": {"max_tokens_to_sample": 16}, **payload}
    return post("/v1/chat/agent", {"prompt_components": [{"payload": payload}], "stream": stream}, base)

def check(metadata={}, base=GATE):
    return post("/v1/prompts/model_configuration%2Fcheck", {"inputs": {}, "model_metadata": metadata}, base)

def openai(model, stream=False):
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16, "stream": stream}
    return post("/v1/chat/completions", body)

def note(headers, log="access"):
    """The access log's line of an answer; the log is written a moment later."""
    for _ in range(100):
        for line in reversed((DIR / f"{log}.log").read_text().splitlines()):
            if headers["x-request-id"] in line: return json.loads(line)
        time.sleep(0.02)
    sys.exit("no line in the access log for " + headers["x-request-id"])

def chat_status(status):
    """A model server's status as a client sees it: a refused key is the operator's, not the client's."""
    return status if (400 <= status < 500 and status not in (401, 403)) or status == 503 else 502

def phrase(status):
    from http import HTTPStatus
    return f"{status}: {HTTPStatus(status).phrase}"

def route(default):
    """Makes `default` the model of requests that name none, and waits for the reload."""
    if (DIR / "weir.toml").read_text() == config(default): return
    before = get(ADMIN + "/status")["generation"]
    fresh = DIR / "weir.new"
    fresh.write_text(config(default))
    fresh.rename(DIR / "weir.toml")
    for _ in range(250):
        if get(ADMIN + "/status")["generation"] > before: return
        time.sleep(0.02)
    sys.exit(f"no reload to {default}")

def command(*args, env=ENV, code=0):
    done = subprocess.run([WEIR, *args, "--config", str(DIR / "weir.toml")], env=env, capture_output=True, text=True, timeout=50)
    seen.append(done.stdout + done.stderr)
    assert done.returncode == code, f"weir {args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr

def is_(what, got, want):
    if got != want: sys.exit(f"{what}:\n  got  {got!r}\n  want {want!r}")

def has(what, text, part):
    if part not in (text or ""): sys.exit(f"{what}:\n  {text!r}\n  lacks {part!r}")


def shown_by_check_and_explain():
    text = command("check")
    for row in (r"nova +region +\"eu-central-1\" +AWS_REGION", r"west +region +\"us-west-2\" +\S+weir.toml:\d+",
                r"nova +credentials +an access key +AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
                r"bearer +credentials +a Bedrock API key +\S+weir.toml:\d+", r"temporary +credentials +a temporary access key",
                r"nova +endpoint +\"http://127.0.0.1:19401\" +AWS_BEDROCK_RUNTIME_ENDPOINT",
                r"models of requests +region +\"eu-central-1\" +AWS_REGION", r"gpt-dated +api_version +\"2025-02-01-preview\""):
        assert re.search(row, text), f"{row}\n{text}"
    has("explain", command("explain", "default"), "an access key")
    print("check and explain: region, endpoint, credentials and version with their origin")

def good_models():
    for name, table in GOOD.items():
        route(name)
        status, headers, text, _ = agent(False)
        is_(name, (status, json.loads(text)["response"]), (200, WORDS))
        is_(f"{name} stream", agent(True)[::2], (200, WORDS))
        is_(f"{name} check", check()[::2], (200, json.dumps(WORDS)))
        line = note(headers)
        is_(f"{name} tokens", (line["tokens_in"], line["tokens_out"], line["outcome"]), (15 if "bedrock/" in table else 12, 5, "ok"))   # Bedrock's 12 are without its 3 cached
        if name == "skewed": is_("the first request learns the clock", line.get("retries"), 1)
        if name == "skewed": is_("the next ones know it", note(agent(False)[1]).get("retries"), None)
    paths = {r["path"] for r in get(BEDROCK + "/_log")}
    for path in ("/model/eu.amazon.nova-micro-v1%3A0/converse-stream", f"/model/{ARN.replace(':', '%3A').replace('/', '%2F')}/converse"):
        assert path in paths, paths
    regions = {r["model"]: r.get("region") for r in get(BEDROCK + "/_log")}
    is_("region of the identifier", regions["meta.llama3-v1:0"], "us-west-2")
    hosts = {r["headers"]["host"] for r in get(BEDROCK + "/_log")}
    assert "bedrock-runtime.eu-central-1.amazonaws.com" in hosts, hosts
    guarded = [r["body"]["guardrailConfig"] for r in get(BEDROCK + "/_log") if "guardrailConfig" in r.get("body", {})]
    is_("guardrail", guarded[0], {"guardrailIdentifier": "abc123", "guardrailVersion": "1", "trace": "enabled"})
    paths = {r["path"] for r in get(AZURE + "/_log")}
    is_("Azure's paths", paths, {"/openai/v1/chat/completions", "/openai/v1/chat/completions?api-version=preview",
                                 "/openai/deployments/gpt/chat/completions?api-version=2025-02-01-preview"})
    print(f"good: {len(GOOD)} models on /v1/chat/agent whole and streamed and on Test connection; every signature verified")

def bad_models():
    for name, (_, status, hint) in BAD.items():
        route(name)
        shown = chat_status(status)
        code = "content_filter" if name == "az-filter" else "upstream_status"
        for stream in (False, True):
            got, headers, text, cut = agent(stream)
            is_(f"{name} stream={stream}", (got, cut, headers["x-weir-error"]), (shown, False, code))
            assert hint not in text, f"the hint is the operator's: {text}"
            has(f"{name}: note", note(headers).get("note"), hint)
        got, headers, text, _ = check()
        is_(f"{name} check", (got, json.loads(text)), (421, {"detail": phrase(status)}))
        has(f"{name} check: note", note(headers).get("note"), hint)
        if name == "az-limit": is_("retry-after of retry-after-ms", headers["retry-after"], "2")
    print(f"bad: {len(BAD)} ways to fail before the first token: the status on the chat, 421 on Test connection, the hint in the log")

def broken_streams():
    for name, (_, hint) in BREAKS.items():
        route(name)
        status, headers, text, cut = agent(True)
        is_(name, (status, cut), (200, True))
        assert text and WORDS.startswith(text) and text != WORDS, f"{name}: {text!r}"
        line = note(headers)
        is_(f"{name} outcome", (line["outcome"], bool(line.get("note"))), ("upstream_error", True))
        has(f"{name} note", line["note"], hint)
        is_(f"{name} whole", agent(False)[0], 200)
    print(f"broken: {len(BREAKS)} streams that fail after the first token are cut, not ended")

def a_proxys_page():
    """200 and HTML, where Bedrock should be."""
    route("page")
    for stream in (False, True):
        got, headers, text, cut = agent(stream)
        is_("page", (got, cut, headers["x-weir-error"], "<html>" in text), (502, False, "upstream_broken", False))
    got, headers, text, _ = check()
    assert got == 421 and "502: Bad Gateway" in text, (got, text)
    print("page: a proxy's 200 page is a 502, 421 on Test connection")

def azure_passthrough():
    status, _, text, _ = openai("gpt")
    is_("passthrough", (status, json.loads(text)["choices"][0]["message"]["content"]), (200, WORDS))
    status, _, text, _ = openai("gpt-dated", True)
    events = [json.loads(data) for data in re.findall(r"^data: (\{.*)$", text, re.M)]
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
    is_("passthrough stream", (status, said, text.rstrip().endswith("data: [DONE]")), (200, WORDS, True))
    for name in (name for name in BAD if name.startswith("az-")):
        _, status, hint = BAD[name]
        for stream in (False, True):
            got, headers, text, _ = openai(name, stream)
            is_(f"{name} passthrough", (got, "error" in json.loads(text)), (chat_status(status), True))
            has(f"{name} passthrough: note", note(headers).get("note"), hint)
    status, headers, text, _ = openai("az-filter")
    is_("content_filter", json.loads(text)["error"]["code"], "content_filter")
    line = note(headers)
    is_("content_filter is nobody's failure", (line["outcome"], line["error_code"]), ("refused", "content_filter"))
    is_("retry-after", openai("az-limit")[1]["retry-after"], "2")
    for name in ("az-cut", "az-err"):
        status, headers, text, _ = openai(name, True)
        assert status == 200 and '"error"' in text and "[DONE]" not in text, text
        is_(f"{name} outcome", note(headers)["outcome"], "upstream_error")
    status, _, text, _ = openai("nova")
    print(f"azure: passed through /v1/chat/completions, whole and streamed, with its failures (a Bedrock model there: {status})")

def messages():
    """The official anthropic client on models whose servers speak Converse and OpenAI's API."""
    for name in ("nova", "arn", "temporary", "gpt", "gpt-dated"): anthropic_client.says(GATE, name, WORDS)
    usage = anthropic_client.says(GATE, "nova", WORDS).usage
    is_("what came from the cache", (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens), (12, 3, 5))
    call = anthropic_client.calls(GATE, "tool")
    sent = [r["body"] for r in get(BEDROCK + "/_log") if r.get("model") == "tool"][-1]
    is_("cached tools", sent["toolConfig"]["tools"][-1], {"cachePoint": {"type": "default"}})
    is_("the failed result", sent["messages"][-1]["content"][0]["toolResult"]["status"], "error")
    for name in ("nova", "gpt"): anthropic_client.wrong(GATE, name)
    is_("count", anthropic_client.count(GATE, "nova"), 12)
    has("count", anthropic_client.refused(anthropic.NotFoundError, lambda: anthropic_client.count(GATE, "gpt")), "does not count tokens")
    classes = {400: anthropic.BadRequestError, 404: anthropic.NotFoundError, 429: anthropic.RateLimitError, 502: anthropic.InternalServerError,
               503: anthropic.InternalServerError, 408: anthropic.APIStatusError}
    for name, (_, status, hint) in BAD.items():
        told = anthropic_client.refused(classes[chat_status(status)], lambda: anthropic_client.ask(GATE, name))
        assert hint not in told, f"the hint is the operator's: {told}"
    for name in BREAKS:
        try:
            with anthropic_client.client(GATE).messages.stream(model=name, max_tokens=16, messages=anthropic_client.HELLO) as stream: list(stream)
            sys.exit(f"{name}: the client saw no failure")
        except anthropic.APIStatusError as error: is_(name, error.body["type"], "error")
    print(f"messages: the anthropic client whole, streamed, with tools ({call.name}); {len(BAD)} failures by its classes, {len(BREAKS)} in the stream")

def models_of_requests():
    route(None)
    dummy = {"name": "claude_3", "endpoint": "http://bedrockselfhostedmodel.com/v1", "api_key": "dummy-canary", "provider": "openai"}
    flat = lambda m: {"model": m["name"], "model_identifier": m["identifier"], "provider": m["provider"],
                      **{f"model_{k}": m[k] for k in ("endpoint", "api_key") if k in m}}
    def both(what, metadata, status=200, said=None):
        got = check(metadata)
        if status == 200:
            is_(what, got[::2], (200, json.dumps(WORDS)))
            is_(what, (agent(True, flat(metadata))[::2]), (200, WORDS))
        else:
            is_(what, got[0], status); has(what, got[2], said)
        return got
    for id in ("eu.amazon.nova-micro-v1:0", ARN, "us-west-2/x", "converse/x"):
        both(id, {**dummy, "identifier": f"bedrock/{id}"})
    both("no endpoint", {"name": "claude_3", "provider": "openai", "identifier": "bedrock/x"})
    is_("the operator's key", {r["key"] for r in get(BEDROCK + "/_log") if r.get("auth") == "sigv4" and "canary" not in str(r)} >= {"AKIDEXAMPLE"}, True)
    assert "dummy-canary" not in json.dumps(get(BEDROCK + "/_log")), "the request's key went to Bedrock"
    has("throttle", note(both("throttle", {**dummy, "identifier": "bedrock/throttle"}, 421, "429: Too Many Requests")[1])["note"], "quota")
    both("malformed", {**dummy, "identifier": "bedrock/arn:aws:s3:::x"}, 422, "no ARN of a model")
    gpt = {"name": "gpt", "api_key": "azure-key-TEST", "provider": "openai", "identifier": "azure/gpt"}
    for path in ("", "/openai/deployments/gpt", "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"):
        both(path or "root", {**gpt, "endpoint": AZURE + path})
    is_("GitLab's api-version", get(AZURE + "/_log")[-1]["path"], "/openai/deployments/gpt/chat/completions?api-version=2025-02-01-preview")
    both("wrong key", {**gpt, "endpoint": AZURE, "api_key": "wrong-canary"}, 421, "401: Unauthorized")
    both("metadata address", {**gpt, "endpoint": "http://169.254.169.254"}, 422, "does not call")
    print("requests: bedrock/ is asked as the operator, azure/ at the request's address; link-local addresses refused")

def bare():
    """No file but two ports, and loopback not allowed to requests: the operator's own Bedrock may be there."""
    (DIR / "bare.toml").write_text('[server]\nlisten = "127.0.0.1:19408"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:19409"\n')
    gate = "http://127.0.0.1:19408"
    model = {"name": "claude_3", "endpoint": "http://dummy", "provider": "openai", "identifier": "bedrock/x"}
    skewed = {**ENV, "AWS_BEDROCK_RUNTIME_ENDPOINT": SKEWED}
    for env, url, status, said in (({"PATH": ENV["PATH"]}, BEDROCK, 422, "AWS_REGION"), (ENV, BEDROCK, 200, "word0"), (skewed, SKEWED, 200, "word0")):
        weir = serve("bare", env, 19409)
        for retries in (1, None):
            got, headers, text, _ = check(model, gate)
            is_("bare", got, status); has("bare", text, said)
            if url == SKEWED: is_("the address keeps its clock", note(headers, "bare").get("retries"), retries)
        # a connection to the operator's Bedrock is kept by now: a request that names the address may not have it
        got, _, text, _ = check({**model, "identifier": "custom_openai/x", "endpoint": url}, gate)
        is_("loopback by request", got, 422); has("loopback by request", text, "does not call")
        stop(weir)
    print("bare: 422 names AWS_REGION and the credentials; the operator's loopback Bedrock is reached, a request's is not")

def probed():
    text = command("probe", code=1)
    for name in GOOD: assert re.search(rf"^{name} .*ok: 30 bytes", text, re.M), f"{name}\n{text}"
    for name, hint in [(name, row[2]) for name, row in BAD.items()] + [("midstream", "quota")]:
        assert re.search(rf"^{name} .*FAILED: .*{re.escape(hint)}", text, re.M), f"{name}: {hint}\n{text}"
    for name in [*BREAKS, "page"]: assert re.search(rf"^{name} .*FAILED: ", text, re.M), f"{name}\n{text}"
    print(f"probe: {len(GOOD)} ok, {len(BAD) + len(BREAKS) + 1} failed, each with what to do")

def serve(name, env, admin):
    logs = [open(DIR / f"{'access' if name == 'weir' else name}.log", "w"), open(DIR / f"{name}.err", "w")]
    weir = subprocess.Popen([WEIR, "serve", "--config", str(DIR / f"{name}.toml")], env=env, stdout=logs[0], stderr=logs[1])
    running.append(weir)
    for _ in range(200):
        if weir.poll() is not None: break       # another one has the port, and would answer for it
        try: get(f"http://127.0.0.1:{admin}/status"); return weir
        except OSError: time.sleep(0.05)
    sys.exit((DIR / f"{name}.err").read_text())

def stop(weir):
    weir.terminate()
    is_("exit", weir.wait(10), 0)

started, running = time.time(), []
(DIR / "weir.toml").write_text(config("nova"))
try:
    weir = serve("weir", ENV, 19407)
    for part in (shown_by_check_and_explain, good_models, bad_models, broken_streams, a_proxys_page, azure_passthrough, messages, models_of_requests, bare, probed):
        part()
    stop(weir)
finally:
    for weir in running: weir.kill()
everything = "\n".join(seen + [path.read_text() for path in DIR.glob("*.log") if path.name != "rigs.log"] + [path.read_text() for path in DIR.glob("*.err")])
for secret in SECRETS: assert secret not in everything, everything[max(0, everything.index(secret) - 300):][:600]
print(f"secrets: none of {len(SECRETS)} in {len(everything)} characters of answers, logs and commands; {time.time() - started:.0f} s")
