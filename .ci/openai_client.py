"""The official openai client against Weir (argv[1]), streamed and not; the model behind it has random weights."""
import sys
import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
ask = dict(model="feature/duo_chat", messages=[{"role": "user", "content": "Hello"}], max_tokens=16)

whole = client.chat.completions.create(**ask)
assert whole.choices[0].message.content and whole.usage.completion_tokens == 16, whole
print("whole:   16 tokens,", repr(whole.choices[0].message.content[:40]))

chunks = list(client.chat.completions.create(**ask, stream=True))
text = "".join(c.choices[0].delta.content or "" for c in chunks)
assert text and all(c.choices for c in chunks), "the usage chunk that Weir asked for must be hidden"
assert chunks[-1].choices[0].finish_reason == "length"
print("stream: ", len(chunks), "chunks,", repr(text[:40]))

chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
assert chunks[-1].usage.completion_tokens == 16 and not chunks[-1].choices
print("usage:   shown when asked for")

plain = client.completions.create(model="first", prompt="def add(a, b):", max_tokens=8)
assert plain.choices[0].text
print("models: ", [m.id for m in client.models.list()][:3], "…")

try:
    client.chat.completions.create(**ask | {"model": "nonsense"})
    raise SystemExit("an unknown model must be refused")
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error
    print("unknown: 404", error.code)
