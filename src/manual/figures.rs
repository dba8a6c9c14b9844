//! Figures: what was measured, on what, and how to measure it again. What a request costs stands in
//! the README.
//!
//! Two cores of a shared AMD EPYC virtual machine, Linux 6.18, 2026-11-26; Weir with one worker,
//! rig and models on the other core. The neighbours of such a machine move times by tens of
//! percent; counts they do not move.
//!
//! # Nothing is lost
//!
//! `.ci/soak` loads one Weir with everything at once, checks every word of every answer, and
//! afterwards what is still held. The flags that go with each row:
//!
//! | what | how | seen | lost |
//! |---|---|---|--:|
//! | ten minutes of everything | `600` | 118,566 streams, 2,000 at once; 627,611 whole answers; 119,999 clients that left; 396 that read slowly; 1,000 changes of the file | 0 |
//! | clients that leave | `110 --streams 100 --rate 200 --partings 1000 --reloads 20 --upgrades 0` | 109,997 | 0 |
//! | the process replaced | `10 --streams 100 --rate 6500 --partings 10 --reloads 10 --upgrades 50` | 50 times under 1,177,839 answers and 7,401 streams, on kept connections and new ones | 0 |
//!
//! Twice in each a replica is killed, and comes back. What it had begun (2,004 streams of the ten
//! minutes) ends with an error in the stream's own words and is counted apart; what it had not is
//! answered by the other. Afterwards descriptors are as before (23), no request is in flight, every
//! request has its line in the log. Memory is 15 MiB with 2,000 streams, 39 and then 45 MiB from
//! the kills on, when hundreds of requests begin in one moment, and flat between.
//!
//! # How soon
//!
//! | from | to | p50 | p99 | how |
//! |---|---|--:|--:|---|
//! | a client leaves, beside everything else | its model server's connection is closed | 0.3 ms | 4.5 ms | the soak's first row |
//! | the same, 1,000 a second | | 0.4 ms | 2.3 ms | its second row |
//! | a file is written | the first request goes by it | 8 ms | 16 ms | its first row |
//! | a request to a model that is full | 503 with `Retry-After` | 58 µs | 104 µs | 20,000 in turn on one connection, `max_parallel = 1`, `max_queue = 0` |
//!
//! Twenty changes of the file a second at 2,000 requests a second, everything on one core: p50 as
//! without, p99 3.1 ms instead of 0.3 ms, since a configuration takes about 3 ms to read and check
//! (here with `SSL_CERT_FILE`'s 150 authorities each time) and nobody else is there to do it.
//!
//! # Which replica
//!
//! A simulation of eight servers of eight places, in `cargo test` (`upstream::balance`); seconds to
//! the first token, 99th percentile:
//!
//! | | one server ten times as slow | one request in ten ten times as long |
//! |---|--:|--:|
//! | Weir | 1.32 | 3.24 |
//! | by requests under way alone | 9.6 | 3.0 |
//! | in turn | 485 | 10 |
//!
//! A replica that fails half of its requests gets 2 % of the traffic at most, and one that is well
//! again is asked within 2 s
//! (`a_replica_that_fails_now_and_then_is_left_alone_and_a_sound_one_is_not`,
//! `a_replica_that_is_well_again_is_asked_again_within_two_seconds`). Hedging cuts a tail of 20 s
//! for 5 % more requests at most (`the_tail_is_cut_within_the_budget_and_the_loser_is_let_go`).
