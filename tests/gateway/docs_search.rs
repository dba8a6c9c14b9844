//! GitLab's documentation tool: from a folder of Markdown to an answer in GitLab's shape
//! (contract::gitlab_client §9.1).

use serde_json::{Value, json};

use weir::docs::Builder;

use crate::support::{Answer, Folder, Gateway};

const PATH: &str = "/v1/search/gitlab-docs";

fn received(query: &str) -> Value {
    json!({"type": "search-docs", "metadata": {"source": "GitLab EE", "version": "18.9.0"}, "payload": {"query": query}})
}

/// Builds an index of these pages in a folder of the test's own.
fn index(folder: &Folder, pages: &[(&str, &str)]) -> String {
    let mut builder = Builder::default();
    pages.iter().for_each(|(path, text)| assert!(builder.add(path, text)));
    let file = folder.path("docs.index");
    std::fs::write(&file, builder.finish().bytes).unwrap();
    format!("[docs]\nindex = {file:?}\n")
}

fn results(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
    answer.json()["response"]["results"].as_array().unwrap().clone()
}

const BRANCHES: (&str, &str) = (
    "user/branches.md",
    "---\ntitle: Branches\n---\nLines of work.\n\n## Protect a branch\n\nOpen [the settings](../s.md).\n",
);

#[tokio::test]
async fn without_an_index_nothing_is_found_and_nothing_is_wrong() {
    let gateway = Gateway::start("").await;
    let answer = gateway.post(PATH, &received("how to add a project")).await;
    assert_eq!(results(&answer), [] as [Value; 0]);
    assert_eq!(answer.json()["metadata"]["provider"], "sqlite");
    assert!(answer.json()["metadata"]["timestamp"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(gateway.line(&answer).await["surface"], "gitlab_docs");
}

#[tokio::test]
async fn sections_are_found_in_gitlabs_shape_and_the_index_follows_a_reload() {
    let folder = Folder::new("docs-search");
    let file = index(&folder, &[BRANCHES, ("user/tags.md", "# Tags\n\nNames of commits.\n")]);
    let gateway = Gateway::start(&file).await;
    let answer = gateway.post(PATH, &received("How are branches protected?")).await;
    let found = results(&answer);
    let first = &found[0];
    assert_eq!(first["content"], "Branches > Protect a branch\n\nOpen the settings.");
    let metadata = json!({
        "Header1": "Branches", "Header2": "Protect a branch", "title": "Branches",
        "filename": "https://docs.gitlab.com/user/branches/", "source": "user/branches.md",
    });
    assert_eq!(first["metadata"], metadata);
    assert!(
        first["id"]
            .as_str()
            .unwrap()
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    );
    let mut one = received("branches");
    one["payload"]["page_size"] = json!(1);
    assert_eq!((results(&gateway.post(PATH, &one).await).len(), found.len()), (1, 2));
    let moved = index(&folder, &[("user/stars.md", "# Stars\n\nBranches of the galaxy.\n")]);
    gateway.reload(&format!("{moved}base_url = \"https://gitlab.example.com/help/\"\n"));
    let found = results(&gateway.post(PATH, &received("branches")).await);
    assert_eq!(
        (found.len(), &found[0]["metadata"]["filename"]),
        (1, &json!("https://gitlab.example.com/help/user/stars.md"))
    );
}

#[tokio::test]
async fn what_is_called_wrongly_is_reported() {
    let gateway = Gateway::start("").await;
    let mut sizes = [0, 21].map(|size| {
        let mut body = received("x");
        body["payload"]["page_size"] = json!(size);
        (body, "payload.page_size: expected a number from 1 to 20")
    });
    let long = received(&"x".repeat(400_001));
    let rest = [
        (json!({}), "payload: Field required"),
        (json!({"payload": {}}), "payload.query: Field required"),
        (long, "payload.query: expected at most 400000 characters"),
    ];
    for (body, detail) in sizes.iter_mut().map(|(body, detail)| (body.take(), *detail)).chain(rest)
    {
        let answer = gateway.post(PATH, &body).await;
        assert_eq!((answer.status(), answer.json()), (422, json!({ "detail": detail })));
    }
}
