//! Nanoseconds and allocations of the hot paths: `cargo bench --bench codec`.
//!
//! Times depend on the machine and its neighbours; the allocation counts do not, and `icount.rs`
//! counts what does not either. Those are for deciding; these are for knowing the order of
//! magnitude.
#![expect(clippy::expect_used, reason = "a bench may stop at a broken fixture")]

mod paths;

use divan::{AllocProfiler, Bencher};
use paths::HotPath;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = paths::ALL)]
fn codec(bencher: Bencher<'_, '_>, path: &HotPath) {
    bencher.bench_local((path.prepare)());
}
