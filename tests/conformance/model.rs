//! What the scripted model server does, by the name that a case gives it.

use serde_json::json;

use crate::support::Reply;
use crate::support::upstream::{Received, says};

const TEXT: &str = "Hello from the scripted model.";
const CODE: &str = "def hello():\n    print('hi')\n";
const FINAL: &str = "Thought: I know this.\nFinal Answer: It is a scripted answer.";

/// The answer to one request.
pub(crate) fn reply(name: &str, request: &Received) -> Reply {
    match name {
        "fake" => says(request, TEXT),
        "fake-code" => says(request, CODE),
        "newcode" => says(request, &format!("<new_code>\n{CODE}</new_code>")),
        "fence" => says(request, &format!("```python\n{CODE}```")),
        "empty" => says(request, ""),
        "react-final" => says(request, FINAL),
        "react-think" => {
            says(request, &format!("<think>Is it known? Final Answer: no.</think>{FINAL}"))
        }
        "stalled" => Reply::stalled(),
        "drop-now" => Reply::closed(),
        "drop-midstream" => Reply::sse().text("Hello ").text("from").then_close(),
        "err-midstream" => Reply::sse().text("Hello").event(fault("midstream")).end(),
        "react-final-drop-midstream" => Reply::sse().text("Thought: I know this.").then_close(),
        "react-final-trunc-midstream" => Reply::sse().text("Thought: I know this.").end(),
        "react-final-err-midstream" => {
            Reply::sse().text("Thought: I know this.").event(fault("midstream")).end()
        }
        "badjson" if request.json()["stream"] == true => Reply::sse().event("{not json").end(),
        "badjson" => Reply::whole(200, &[("content-type", "application/json")], "{not json"),
        "html-502" => {
            Reply::whole(502, &[("content-type", "text/html")], "<html><h1>Bad gateway</h1></html>")
        }
        other => {
            let status = other.strip_prefix("err-").and_then(|status| status.parse().ok());
            let status = status.unwrap_or_else(|| panic!("no such behaviour: {other}"));
            let headers: &[(&str, &str)] =
                &[("content-type", "application/json"), ("retry-after", "1")];
            Reply::whole(
                status,
                &headers[..if status == 429 { 2 } else { 1 }],
                fault(&status.to_string()),
            )
        }
    }
}

fn fault(what: &str) -> String {
    json!({"error": {"message": format!("scripted error {what}"), "type": "scripted", "param": null, "code": null}})
        .to_string()
}
