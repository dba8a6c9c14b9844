//! The house rules that no compiler checks: sizes, layers, names, tables, citations. The tree is read
//! as text, so a broken rule is one failure that lists every offender with its line. Each rule that
//! is more than a count is also tested on a planted violation.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

mod layers;
mod manual;
mod names;
mod sizes;
mod source;
mod tables;
