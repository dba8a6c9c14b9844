//! The contract: what GitLab, its official gateway and the providers send and expect, as far as the
//! code cites it.
//!
//! - [`gitlab_client`]: what GitLab sends, and how it reads the response.
//! - [`ai_gateway_server`]: what GitLab's official gateway returns.
//! - [`providers`]: what Bedrock, Azure OpenAI and vLLM demand.
//!
//! # What these pages are
//!
//! Descriptions in our own words of facts that make two programs work together: paths, headers,
//! field names, limits, statuses, times, and sentences that a client shows or parses. A clean room:
//! one side looked (exchanges recorded on loopback, public documentation, the programs' interfaces)
//! and wrote down facts, the other wrote Weir from those and nothing else. People who work on Weir
//! open no source of GitLab's gateway. No code and no prompt text of GitLab's is in this
//! repository: [`prompt`](crate::prompt) has our own.
//!
//! "GitLab" is 18.9 (February 2026) unless a version is named, "19.x" a later one whose minor is
//! not known, "the official gateway" that of August 2026. *(inferred)* and *(unverified)* mark what
//! nobody has seen.
//!
//! # How to cite
//!
//! Page and section: `contract::gitlab_client §6.1`, `contract::providers §d3.2`; several of a page
//! with commas between, `contract::gitlab_client §8.1, §8.4`. A section keeps its number for good,
//! and a missing number is a fact that nothing here depends on. A fact that is no longer cited may
//! go; one that changes names the version in which it did. `tests/tidy/` resolves every citation.

pub mod ai_gateway_server;
pub mod gitlab_client;
pub mod providers;
