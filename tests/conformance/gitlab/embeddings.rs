//! Semantic code search (contract::gitlab_client §9.4): code becomes vectors when it is indexed,
//! and so does a question that searches it.

use serde_json::{Value, json};

use super::GitLab;
use super::http::Request;

/// Numbers in a vector, as the index of GitLab was made for.
pub(crate) const DIMENSIONS: usize = 3;

/// Why there are no vectors: a status (0 without an answer) and the `detail` that Rails logs.
pub(crate) type Refused = (u16, String);

impl GitLab {
    /// Pieces of code for the index, in one call.
    pub(crate) async fn index_code(&self, pieces: &[&str]) -> Result<Vec<Vec<f64>>, Refused> {
        self.embed("index", pieces).await
    }

    /// A question to search the index with.
    pub(crate) async fn search_code(&self, question: &str) -> Result<Vec<Vec<f64>>, Refused> {
        self.embed("search", &[question]).await
    }

    async fn embed(&self, purpose: &str, contents: &[&str]) -> Result<Vec<Vec<f64>>, Refused> {
        let mut metadata = json!({"provider": "gitlab", "identifier": "text_embedding_005_vertex"});
        if let Some(model) = &self.model {
            metadata = model.clone();
            metadata["provider"] = json!("litellm");
        }
        let body =
            json!({"model_metadata": metadata, "litellm_drop_params": true, "contents": contents,
            "dimensions": DIMENSIONS})
            .to_string();
        let path = format!("/v1/embeddings/code_embeddings/{purpose}");
        let answer = self.http.whole(Request::post(&path, &body)).await;
        let (head, body) = answer.map_err(|broken| (0, format!("{broken:?}")))?;
        let body: Value =
            if head.is_json() { serde_json::from_str(&body).unwrap() } else { Value::Null };
        if !head.is_success() {
            return Err((head.status, body["detail"].as_str().unwrap_or_default().to_owned()));
        }
        assert_eq!(body["model"]["name"], "embedding", "{body}");
        let predictions = body["predictions"].as_array().expect("predictions");
        assert_eq!(predictions.len(), contents.len(), "one for each text: {body}");
        let vector = |(at, prediction): (usize, &Value)| {
            assert_eq!(prediction["index"], at, "in the order of the texts: {body}");
            let numbers = prediction["embedding"].as_array().expect("a vector");
            numbers.iter().map(|number| number.as_f64().expect("a number")).collect()
        };
        Ok(predictions.iter().enumerate().map(vector).collect())
    }
}
