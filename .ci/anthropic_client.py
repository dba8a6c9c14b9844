"""The official anthropic client against Weir (argv[1]) and one of its models (argv[2]), whose server does not speak
Anthropic's API: what .ci/real runs against llama.cpp, and .ci/providers, by the functions, against Bedrock and Azure."""
import sys
import anthropic

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "get_weather", "description": "Says what it is like outside", "cache_control": {"type": "ephemeral"},
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def client(base): return anthropic.Anthropic(base_url=base, api_key="unused", max_retries=0)

def text_of(message): return "".join(block.text for block in message.content if block.type == "text")

def read(message): return message.usage.input_tokens + message.usage.cache_read_input_tokens

def says(base, model, words=None):
    """Whole and streamed; both say `words` where they are given."""
    ask = dict(model=model, max_tokens=16, system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}], messages=HELLO)
    whole = client(base).messages.create(**ask)
    assert whole.model == model and whole.id.startswith("msg_") and whole.usage.output_tokens > 0, whole
    assert whole.stop_reason in ("end_turn", "max_tokens") and text_of(whole), whole
    with client(base).messages.stream(**ask) as stream:
        pieces = list(stream.text_stream)
        last = stream.get_final_message()
    assert "".join(pieces) == text_of(last) and last.stop_reason == whole.stop_reason and read(last) == read(whole), (whole, last)
    for message in (whole, last): assert words is None or text_of(message) == words, message
    return whole

def calls(base, model):
    """A tool's round: the call, whole and streamed, and its failed result sent back."""
    ask = dict(model=model, max_tokens=64, tools=[TOOL], messages=HELLO)
    whole = client(base).messages.create(**ask, tool_choice={"type": "any"})
    with client(base).messages.stream(**ask) as stream:
        list(stream)
        last = stream.get_final_message()
    for message in (whole, last):
        call = message.content[-1]
        assert message.stop_reason == "tool_use" and call.type == "tool_use" and isinstance(call.input, dict), message
    assert whole.content[-1].input == last.content[-1].input, (whole, last)
    result = {"type": "tool_result", "tool_use_id": last.content[-1].id, "content": "no such city", "is_error": True}
    turns = [{"role": "assistant", "content": last.content}, {"role": "user", "content": [result]}]
    client(base).messages.create(**ask | {"messages": HELLO + turns})
    return last.content[-1]

def refused(error, what):
    """`what` is refused with this class of error; its message."""
    try: what()
    except error as told:
        assert told.body["type"] == "error" and told.body["error"]["message"], told.body
        return told.body["error"]["message"]
    raise SystemExit(f"not refused with {error.__name__}")

def count(base, model): return client(base).messages.count_tokens(model=model, messages=HELLO).input_tokens

def ask(base, model, **more): return client(base).messages.create(**dict(model=model, max_tokens=16, messages=HELLO) | more)

def wrong(base, model):
    """What no server of another dialect can be asked, by the client's classes."""
    told = refused(anthropic.BadRequestError, lambda: ask(base, model, extra_body={"top_k": 5}))
    assert told.startswith("top_k: "), told
    told = refused(anthropic.BadRequestError, lambda: ask(base, model, messages=[{"role": "user", "content": [{"type": "document"}]}]))
    assert told.startswith("messages.0.content.0.type: "), told
    refused(anthropic.NotFoundError, lambda: ask(base, "nonsense"))
    assert model in [entry.id for entry in client(base).models.list()]


if __name__ == "__main__":
    base, model = sys.argv[1:]
    whole = says(base, model)
    print("whole and streamed:", repr(text_of(whole)[:40]), whole.usage.output_tokens, "tokens")
    wrong(base, model)
    told = refused(anthropic.NotFoundError, lambda: count(base, model))
    print("refused by class:   400, 404;", told)
