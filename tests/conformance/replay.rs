//! Each recorded exchange against a gateway of ours and a model server that does what the recorded
//! one did.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::differences::{self, Difference};
use crate::fixtures::{self, Case, Expected, Sent};
use crate::shape::{lacks, mismatches};
use crate::support::upstream::Received;
use crate::support::{Answer, Client, End, Gateway, Upstream};
use crate::{gitlab, model};

/// Requests under way at once: the order of the cases must not matter.
const AT_ONCE: usize = 8;
/// The recorded requests name their model, on this machine.
const FILE: &str = "[features]\nrequest_loopback = true\n";

#[tokio::test]
async fn the_official_gateways_exchanges() {
    let (table, listed) = differences::all();
    let cases = fixtures::all();
    let total = cases.len();
    for case in listed.keys() {
        assert!(
            cases.iter().any(|(known, _)| known == case),
            "differences.toml names {case}, which is no case"
        );
    }
    let mut gateways: BTreeMap<String, Arc<Gateway>> = BTreeMap::new();
    let mut running: JoinSet<Result<(), String>> = JoinSet::new();
    let mut failures = Vec::new();
    for (name, fields) in cases {
        if running.len() == AT_ONCE {
            failures.extend(running.join_next().await.unwrap().unwrap().err());
        }
        let case = Case::of(&name, fields.clone());
        let ours = listed.get(&name).map(|at| table[*at].of(&name, &fields));
        if !gateways.contains_key(&case.file) {
            let gateway = Gateway::start(&format!("{FILE}{}", case.file)).await;
            gateways.insert(case.file.clone(), Arc::new(gateway));
        }
        let gateway = Arc::clone(&gateways[&case.file]);
        running.spawn(async move { passes(&gateway, &case, ours.as_ref()).await });
    }
    while let Some(done) = running.join_next().await {
        failures.extend(done.unwrap().err());
    }
    failures.sort();
    report(&table, listed.len(), total - failures.len(), total);
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// Not `print!`: the result is printed whether the test passes or not.
fn report(table: &[Difference], listed: usize, passed: usize, total: usize) {
    let mut out = std::io::stderr();
    writeln!(out, "passed {passed} of {total}, {listed} of them in a deliberately different way:")
        .unwrap();
    for difference in table {
        writeln!(out, "  {:3}  {}. {}", difference.cases.len(), difference.what, difference.why)
            .unwrap();
    }
}

/// Whether the exchange goes as recorded, or as we would have it instead and not as recorded.
async fn passes(gateway: &Gateway, case: &Case, ours: Option<&Case>) -> Result<(), String> {
    let exchange = Exchange::of(gateway, case).await;
    if ours.is_some() && exchange.judge(case).is_ok() {
        return Err(format!("{}: is listed as a difference but is none any more", case.name));
    }
    exchange.judge(ours.unwrap_or(case)).map_err(|faults| exchange.tell(case, &faults))
}

/// What happened.
struct Exchange {
    answer: Answer,
    received: Vec<Received>,
    /// The request's id, if it had one.
    requested_as: Option<String>,
}

impl Exchange {
    async fn of(gateway: &Gateway, case: &Case) -> Self {
        let behaviour = case.model.clone().unwrap_or_else(|| "fake".to_owned());
        let upstream = Upstream::start(move |request| model::reply(&behaviour, request)).await;
        let server = format!("http://{}", upstream.address);
        let body = match (&case.body, &case.raw) {
            (Some(body), _) => filled(body, &server).to_string(),
            (None, raw) => {
                raw.as_ref().map_or_else(String::new, |raw| raw.replace("$server", &server))
            }
        };
        let mut client = Client::connect(gateway.public).await;
        client.write(request(case, &body)).await;
        let head = client.head().await;
        let answer = client.body(head, case.method == "HEAD").await;
        let own = case.headers["x-request-id"].as_str();
        let usual = gitlab::headers()
            .into_iter()
            .find(|(name, _)| *name == "x-request-id")
            .map(|(_, id)| id);
        let requested_as = own.or(usual.filter(|_| case.headers != "$none")).map(str::to_owned);
        Self { answer, received: upstream.requests(), requested_as }
    }

    /// What is not as the case says.
    fn judge(&self, case: &Case) -> Result<(), Vec<String>> {
        let mut faults = self.judge_answer(&case.answer);
        faults.extend(self.judge_sent(&case.sent));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn judge_answer(&self, expected: &Expected) -> Vec<String> {
        let answer = &self.answer;
        let mut faults = Vec::new();
        if answer.status() != expected.status {
            faults.push(format!("status {} instead of {}", answer.status(), expected.status));
        }
        let typed = expected.content_type.as_deref().map(|value| ("content-type", value));
        let headers = expected.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in typed.into_iter().chain(headers) {
            if answer.header(name) != Some(value) {
                faults.push(format!("{name}: {:?} instead of {value}", answer.header(name)));
            }
        }
        if self.requested_as.is_some()
            && answer.header("x-request-id") != self.requested_as.as_deref()
        {
            faults.push(format!("x-request-id: {:?}", answer.header("x-request-id")));
        }
        if (answer.end == End::Cut) != expected.cut {
            faults.push(format!("the body's end: {:?}", answer.end));
        }
        if let Some(shape) = &expected.text {
            faults.extend(mismatches(shape, &json!(answer.text())));
        }
        type Read = fn(&str) -> Option<Value>;
        let forms: [(&Option<Value>, Read); 3] = [
            (&expected.json, |text| serde_json::from_str(text).ok()),
            (&expected.lines, gitlab::wire::lines),
            (&expected.events, gitlab::wire::events),
        ];
        for (shape, read) in
            forms.into_iter().filter_map(|(shape, read)| Some((shape.as_ref()?, read)))
        {
            match read(answer.text()) {
                Some(seen) => faults.extend(mismatches(shape, &seen)),
                None => faults.push("the body is not of that form".to_owned()),
            }
        }
        faults
    }

    fn judge_sent(&self, expected: &Sent) -> Vec<String> {
        let count = self.received.len();
        let mut faults = Vec::new();
        if !expected.calls.admits(count) {
            faults.push(format!(
                "the model server was called {count} times instead of {:?}",
                expected.calls
            ));
        }
        let Some(received) = self.received.first() else {
            return faults;
        };
        if let Some(path) = expected.path.as_ref().filter(|path| **path != received.path) {
            faults.push(format!("the model server's path: {} instead of {path}", received.path));
        }
        for (name, value) in
            [("authorization", &expected.authorization), ("api-key", &expected.api_key)]
        {
            if value.is_some() && received.header(name) != value.as_deref() {
                faults.push(format!(
                    "the model server's {name}: {:?} instead of {value:?}",
                    received.header(name)
                ));
            }
        }
        let body = received.json();
        faults.extend(
            expected
                .body
                .iter()
                .flat_map(|shape| lacks(shape, &body))
                .map(|fault| format!("sent {fault}")),
        );
        faults.extend(
            unread(&expected.carries, &body).map(|text| format!("the model did not read {text:?}")),
        );
        faults
    }

    fn tell(&self, case: &Case, faults: &[String]) -> String {
        let (answer, name) = (&self.answer, &case.name);
        let body: String = String::from_utf8_lossy(&answer.body).chars().take(400).collect();
        format!("{name}: {}\n    answered {} {body}", faults.join("\n    "), answer.status())
    }
}

/// The first of these texts that the model was not given after those before it.
fn unread<'a>(texts: &'a [String], body: &Value) -> Option<&'a str> {
    let mut all = String::new();
    gather(body, &mut all);
    let mut rest = all.as_str();
    texts.iter().find_map(|text| match rest.split_once(text.as_str()) {
        Some((_, after)) => {
            rest = after;
            None
        }
        None => Some(text.as_str()),
    })
}

fn gather(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push_str(text);
            into.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| gather(field, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The body with the server's address, `$null` and `{"$repeat": [text, times]}` filled in.
fn filled(body: &Value, server: &str) -> Value {
    match body {
        Value::String(text) if text == "$null" => Value::Null,
        Value::String(text) => {
            json!(text.replace("$server", server).replace("$refused", "http://127.0.0.1:9/v1"))
        }
        Value::Array(items) => items.iter().map(|item| filled(item, server)).collect(),
        Value::Object(fields) => match fields.get("$repeat") {
            Some(repeat) => {
                let times = usize::try_from(repeat[1].as_u64().unwrap()).unwrap();
                json!(repeat[0].as_str().unwrap().repeat(times))
            }
            None => Value::Object(
                fields.iter().map(|(key, value)| (key.clone(), filled(value, server))).collect(),
            ),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => body.clone(),
    }
}

fn request(case: &Case, body: &str) -> String {
    let mut head = format!("{} {} HTTP/1.1\r\n", case.method, case.path);
    let mut put = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    match case.host.as_deref() {
        Some("$none") => {}
        host => put("host", host.unwrap_or("weir.test")),
    }
    let own = case.headers.as_object();
    if case.headers != "$none" {
        let usual = gitlab::headers()
            .into_iter()
            .filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)));
        usual.for_each(|(name, value)| put(name, value));
    }
    own.into_iter().flatten().for_each(|(name, value)| put(name, value.as_str().unwrap()));
    if case.method == "POST" {
        put("content-length", &body.len().to_string());
    }
    format!("{head}\r\n{body}")
}
