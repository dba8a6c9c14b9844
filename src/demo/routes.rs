//! The paths of the demo's model server: OpenAI's as vLLM has them, Azure's with a deployment,
//! Bedrock's Converse. Each dialect's clients then find what they know.

use http::Method;

use crate::demo::shapes::Kind;

/// In whose words an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// OpenAI's, as vLLM writes it.
    OpenAi,
    /// OpenAI's, as Azure writes it.
    Azure,
    /// Converse.
    Bedrock,
}

/// What a request line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door<'a> {
    /// `GET /health`
    Health,
    /// `GET /v1/models`
    Models,
    /// `POST /v1/embeddings`
    Embeddings,
    /// An answer to a chat or a text.
    Generate {
        /// How it is written.
        wire: Wire,
        /// To a chat or a text.
        kind: Kind,
        /// The model, where the path names it.
        model: Option<&'a str>,
        /// Whether to stream, where the path says so.
        stream: Option<bool>,
    },
}

impl<'a> Door<'a> {
    /// The door of a request line; none leads nowhere.
    pub(super) fn of(method: &Method, path: &'a str) -> Option<Self> {
        let generate =
            |wire, kind, model, stream| Some(Self::Generate { wire, kind, model, stream });
        match (method, path) {
            (&Method::GET, "/health") => Some(Self::Health),
            (&Method::GET, "/v1/models") => Some(Self::Models),
            (&Method::POST, "/v1/embeddings") => Some(Self::Embeddings),
            (&Method::POST, "/v1/chat/completions") => {
                generate(Wire::OpenAi, Kind::Chat, None, None)
            }
            (&Method::POST, "/v1/completions") => {
                generate(Wire::OpenAi, Kind::Completion, None, None)
            }
            (&Method::POST, "/openai/v1/chat/completions") => {
                generate(Wire::Azure, Kind::Chat, None, None)
            }
            (&Method::POST, path) => {
                if let Some(rest) = path.strip_prefix("/openai/deployments/") {
                    return generate(
                        Wire::Azure,
                        Kind::Chat,
                        Some(rest.strip_suffix("/chat/completions")?),
                        None,
                    );
                }
                let (model, call) = path.strip_prefix("/model/")?.split_once('/')?;
                let stream = match call {
                    "converse" => false,
                    "converse-stream" => true,
                    _ => return None,
                };
                generate(Wire::Bedrock, Kind::Chat, Some(model), Some(stream))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Door, Kind, Wire};

    #[test]
    fn each_dialect_finds_its_path() {
        let post = |path| Door::of(&Method::POST, path);
        let chat =
            |wire, model, stream| Some(Door::Generate { wire, kind: Kind::Chat, model, stream });
        assert_eq!(post("/v1/chat/completions"), chat(Wire::OpenAi, None, None));
        assert_eq!(
            post("/openai/deployments/demo/chat/completions"),
            chat(Wire::Azure, Some("demo"), None)
        );
        assert_eq!(
            post("/model/demo/converse-stream"),
            chat(Wire::Bedrock, Some("demo"), Some(true))
        );
        assert_eq!(post("/model/demo/invoke"), None);
        assert_eq!(Door::of(&Method::GET, "/v1/chat/completions"), None);
    }
}
