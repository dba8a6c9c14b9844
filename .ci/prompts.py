"""Every prompt of config/prompts through Weir (argv[1]), with the inputs of its own example, whole and streamed; the model behind it
has random weights, so that only status and form are looked at."""
import json
import pathlib
import sys
import tomllib
import urllib.request

base = sys.argv[1]


def post(path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode(errors="replace")


folder = pathlib.Path("config/prompts")
files = sorted(folder.glob("**/base.toml"))
assert len(files) >= 28, files
for file in files:
    prompt = file.parent.relative_to(folder).as_posix()
    said = tomllib.loads(file.read_text())
    if said["inputs"] and "example" not in said:
        continue  # of a surface of its own, which brings the inputs
    body = {"inputs": said.get("example", {}), "prompt_version": "^1.0.0"}
    path = "/prompts/" + prompt.replace("/", "%2F")
    whole = json.loads(post("/v1" + path, body))
    assert isinstance(whole, str), whole
    lines = [json.loads(line) for line in post("/v2" + path, body | {"stream": True}).splitlines()]
    assert all("content" in line for line in lines) and lines[-1]["usage"]["tiny-first"], lines[-1]
    print(f"{prompt:40} {len(lines):5} lines, {lines[-1]['usage']['tiny-first']}")
