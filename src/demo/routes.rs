//! The routes of the demo's model server: OpenAI's paths as vLLM has them, Azure's with a
//! deployment, Bedrock's Converse, so that the clients of each dialect can use it.

use http::Method;

use crate::demo::shapes::Kind;

/// The format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DemoDialect {
    /// OpenAI's, as vLLM writes it.
    OpenAi,
    /// OpenAI's, as Azure writes it.
    Azure,
    /// Converse.
    Bedrock,
}

/// The endpoint of a request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DemoRoute<'a> {
    /// `GET /health`
    Health,
    /// `GET /v1/models`
    Models,
    /// `POST /v1/embeddings`
    Embeddings,
    /// A chat or text completion.
    Generate {
        /// Its format.
        dialect: DemoDialect,
        /// Chat or text.
        kind: Kind,
        /// The model, if the path names it.
        model: Option<&'a str>,
        /// Whether to stream, if the path decides it.
        stream: Option<bool>,
    },
}

impl<'a> DemoRoute<'a> {
    /// Returns the endpoint of a request line; `None` for an unknown path.
    pub(super) fn of(method: &Method, path: &'a str) -> Option<Self> {
        let generate =
            |dialect, kind, model, stream| Some(Self::Generate { dialect, kind, model, stream });
        match (method, path) {
            (&Method::GET, "/health") => Some(Self::Health),
            (&Method::GET, "/v1/models") => Some(Self::Models),
            (&Method::POST, "/v1/embeddings") => Some(Self::Embeddings),
            (&Method::POST, "/v1/chat/completions") => {
                generate(DemoDialect::OpenAi, Kind::Chat, None, None)
            }
            (&Method::POST, "/v1/completions") => {
                generate(DemoDialect::OpenAi, Kind::Completion, None, None)
            }
            (&Method::POST, "/openai/v1/chat/completions") => {
                generate(DemoDialect::Azure, Kind::Chat, None, None)
            }
            (&Method::POST, path) => {
                if let Some(rest) = path.strip_prefix("/openai/deployments/") {
                    return generate(
                        DemoDialect::Azure,
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
                generate(DemoDialect::Bedrock, Kind::Chat, Some(model), Some(stream))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{DemoDialect, DemoRoute, Kind};

    #[test]
    fn each_dialect_has_its_paths() {
        let post = |path| DemoRoute::of(&Method::POST, path);
        let chat = |dialect, model, stream| {
            Some(DemoRoute::Generate { dialect, kind: Kind::Chat, model, stream })
        };
        assert_eq!(post("/v1/chat/completions"), chat(DemoDialect::OpenAi, None, None));
        assert_eq!(
            post("/openai/deployments/demo/chat/completions"),
            chat(DemoDialect::Azure, Some("demo"), None)
        );
        assert_eq!(
            post("/model/demo/converse-stream"),
            chat(DemoDialect::Bedrock, Some("demo"), Some(true))
        );
        assert_eq!(post("/model/demo/invoke"), None);
        assert_eq!(DemoRoute::of(&Method::GET, "/v1/chat/completions"), None);
    }
}
