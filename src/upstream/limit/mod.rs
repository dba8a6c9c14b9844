//! How many requests a model gets: the concurrency limit with its queue, the retry budget, the
//! hedging budget.

pub(super) mod concurrency;
pub(super) mod hedge_budget;
pub(super) mod retry_budget;
