//! Decisions on Duo Chat and on prompts. Newest first.
//!
//! # 2026-11-25: Duo Chat's head may be sent before there is content
//!
//! **Decision.** The chat handler commits to a content type and a status of 200 in advance. After
//! `chat.heartbeat` without a byte the server sends the head, keeps working on the response inside
//! the body, and sends a blank line after every further silence. No layer below the server is
//! involved.
//!
//! **Because.** GitLab reads every failure of its chat from events in a 200, and treats 60 s of
//! silence as the end of the stream. Holding the head back gains nothing there.
//!
//! **Rejected.** A relay whose streams open their upstream connection themselves: everything else
//! that a handler waits for would have needed the same treatment.
//!
//! # 2026-11-25: No prefill for ReAct
//!
//! **Decision.** A step of ReAct is two turns: the text that the model wrote, and `Observation: …`
//! from the user.
//!
//! **Because.** vLLM needs a flag for a prefilled turn; Mistral's templates and new Claude models
//! reject it.
//!
//! **Rejected.** The official gateway's form, which ends the conversation with `Thought:` in the
//! model's turn.
//!
//! # 2026-11-25: Function calls first, text when they are rejected
//!
//! **Decision.** With `chat.tools = "auto"`, a model of a family that supports function calls is
//! offered the tools as functions. When the server rejects them as unsupported, the request is sent
//! once more with the tools as text. Text before a call is held back, up to 240 bytes. A model that
//! writes ReAct although it was given functions is parsed as ReAct.
//!
//! **Because.** GitLab ignores a call once it has received a piece of an answer.
//!
//! # 2026-11-25: One prompt text for all versions
//!
//! **Decision.** A prompt file lists the versions that it satisfies. The file of a family contains
//! only what differs from `base`; when its versions do not match, `base` is used.
//!
//! **Because.** GitLab requests `1.2.0`, `^2.0.0` or `1.1.0-dev` of a prompt; in the official
//! gateway these are different texts for the same inputs and outputs.
//!
//! **Rejected.** Refusing a version that the family's file does not have, as the official gateway
//! does.
//!
//! # 2026-11-25: No prefill in prompts
//!
//! **Decision.** An example in the prompt shows the form of the answer. The prompts do not begin
//! with a policy block that contains a random marker.
//!
//! **Because.** Plain vLLM starts a new turn after a prefilled one, newer Claude models reject it,
//! and GitLab parses a whole answer just as well. A prompt whose beginning is the same in every
//! request is served from the model server's prefix cache.
//!
//! **Rejected.** The official reader prompts, which end in the beginning of the answer.
//!
//! # 2026-11-25: Errors of prompts follow GitLab's contract
//!
//! **Decision.** 404 for an unknown prompt, 422 for a version that is not a constraint, and 422
//! with the name (`'diff'`) for a missing input. A plain-text stream that people read (`chat/…`)
//! carries the error as a sentence. A v2 stream that fails after its head ends with a line
//! `{"detail": …}`.
//!
//! **Because.** These are clear, and GitLab treats every 4xx alike. GitLab shows users the body of
//! those plain-text streams.
//!
//! **Rejected.** What the official gateway does when it runs: 400 for the first two, one of them
//! with a path on its disk.
