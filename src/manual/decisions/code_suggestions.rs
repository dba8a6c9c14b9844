//! Decisions on code suggestions: completion and generation. Newest first.
//!
//! # 2026-11-25: Fill-in-the-middle goes to `/completions`
//!
//! **Decision.** A family that has fill-in-the-middle (FIM) tokens receives a raw prompt where the
//! server accepts one, without the beginning-of-text token. `completion_endpoint = "chat"` selects
//! the chat endpoint for servers whose template passes messages unchanged. A server without
//! `/completions` (404, 405, 501) is called once more with an instruction in a chat message; the
//! outcome is not remembered.
//!
//! **Because.** vLLM and llama.cpp add the beginning-of-text token themselves. The outcome is not
//! remembered because the operator's key is the remedy.
//!
//! **Rejected.** The official gateway's form, FIM tokens in a user message, which the server's chat
//! template wraps in tokens of its own: no model was trained on that, and instruct models then
//! comment on the tokens.
//!
//! # 2026-11-25: Mistral and Mixtral complete by instruction
//!
//! **Decision.** The instruct models of Mistral and Mixtral complete code by instruction, not by
//! FIM tokens. All completions are greedy.
//!
//! **Because.** These models have no FIM tokens; those of Codestral, which the official gateway
//! sends them, are plain text to them. For a suggestion that nobody requested, the likeliest text
//! is wanted.
//!
//! # 2026-11-25: Bytes stand in for tokens
//!
//! **Decision.** Prompts are cut to a model's window at 2.5 bytes per token. A completion reads at
//! most 32,768 tokens, however large the window is. What the suffix does not use goes to the
//! prefix, and the reverse. Context never displaces code.
//!
//! **Because.** 2.5 bytes errs towards slightly less code. A larger prompt slows down every
//! keystroke.
//!
//! **Rejected.** A tokenizer for each family: it would have to be shipped and kept correct. The
//! official gateway ships one that fits none of them.
//!
//! # 2026-11-25: A failed model is 421 on code suggestions, a busy one 429
//!
//! **Decision.** A failed model is 421 with `"NNN: Phrase"`; a busy one is 429 with the time to
//! wait. After the head, v4 sends an `error` event and no `stream_end`; a plain-text stream is cut
//! off.
//!
//! **Because.** GitLab's probe parses the 421, and editors wait for as long as a 429 indicates.
//!
//! # 2026-11-25: Fences and wrappers are stripped from completions too
//!
//! **Decision.** They are stripped only from answers to an instruction. One line of prose before a
//! fence is removed with it. In a Markdown file fences stay.
//!
//! **Because.** Between FIM tokens a model writes code from the first byte. In Markdown the fences
//! may be what the user wanted.
