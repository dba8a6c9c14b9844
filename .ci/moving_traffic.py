"""Edits Weir's file (argv[2]) from one model to the other and back while requests run against argv[1]; every
request must succeed, and the answers must follow the file within a second."""
import json, pathlib, sys, threading, time, urllib.request

url, path = sys.argv[1] + "/v1/chat/agent", pathlib.Path(sys.argv[2])
body = {"prompt_components": [{"type": "string", "metadata": {"source": "s", "version": "v"},
        "payload": {"content": "Hi", "provider": "x", "model": "y", "params": {"max_tokens_to_sample": 4}}}], "stream": False}

def ask():
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["metadata"]["model"]

stop, failures, served = threading.Event(), [], {"tiny-first": 0, "tiny-second": 0}
def client():
    while not stop.is_set():
        try: served[ask()] += 1
        except Exception as error: failures.append(repr(error))

threads = [threading.Thread(target=client) for _ in range(4)]
for thread in threads: thread.start()
slowest = 0
for target in ["second", "first"] * 3:
    time.sleep(0.5)
    text = path.read_text()
    old = "first" if target == "second" else "second"
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(f'duo_chat = "{old}"', f'duo_chat = "{target}"'))
    fresh.rename(path)                                    # as editors do
    started = time.time()
    while ask() != f"tiny-{target}":
        if time.time() - started > 5: sys.exit(f"the change to {target} did not take effect")
    slowest = max(slowest, time.time() - started)
stop.set()
for thread in threads: thread.join()
assert not failures, failures[:3]
assert slowest < 1, f"the slowest change took {slowest:.2f} s"
print(f"{sum(served.values())} requests, 0 failed, {served}; slowest change visible after {slowest:.2f} s")
