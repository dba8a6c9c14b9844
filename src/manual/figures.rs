//! Measurements: what was measured, on what, and how to repeat it. The cost of a request is in the
//! README.
//!
//! Two cores of a shared AMD EPYC virtual machine, Linux 6.18, 2026-11-26; Weir with one worker,
//! load generator and models on the other core. The neighbours of such a machine move times by tens
//! of percent; they do not move counts.
//!
//! # Nothing is lost
//!
//! `.ci/soak` puts every kind of load on one Weir at once, checks every word of every answer, and
//! afterwards checks what is still held. The arguments of each row:
//!
//! | what | arguments | observed | lost |
//! |---|---|---|--:|
//! | ten minutes of everything | `600` | 118,566 streams, 2,000 at once; 627,611 whole answers; 119,999 clients that disconnected; 396 that read slowly; 1,000 changes of the file | 0 |
//! | clients that disconnect | `110 --streams 100 --rate 200 --partings 1000 --reloads 20 --upgrades 0` | 109,997 | 0 |
//! | the process replaced | `10 --streams 100 --rate 6500 --partings 10 --reloads 10 --upgrades 50` | 50 times under 1,177,839 answers and 7,401 streams, on kept connections and new ones | 0 |
//!
//! Twice in each run a replica is killed and restarted. The streams it had begun (2,004 of the ten
//! minutes) end with an in-band error and are counted separately; requests it had not begun to
//! answer are served by the other replica.
//!
//! Afterwards the number of descriptors is the initial one (23), no request is in flight, and every
//! request has its line in the log. Memory is 15 MiB with 2,000 streams, 39 and then 45 MiB after
//! the kills, when hundreds of requests begin at one moment, and flat in between.
//!
//! # Latency of reactions
//!
//! | from | to | p50 | p99 | measured in |
//! |---|---|--:|--:|---|
//! | a client disconnects, under the full load | its model server's connection is closed | 0.3 ms | 4.5 ms | the first row above |
//! | the same, 1,000 a second | | 0.4 ms | 2.3 ms | the second row above |
//! | a file is written | the first request is routed by it | 8 ms | 16 ms | the first row above |
//! | a request to a model at its limit | 503 with `Retry-After` | 58 µs | 104 µs | 20,000 in sequence on one connection, `max_parallel = 1`, `max_queue = 0` |
//!
//! Twenty changes of the file a second at 2,000 requests a second, everything on one core: p50 is
//! the same as without, p99 3.1 ms instead of 0.3 ms, since a configuration takes about 3 ms to
//! read and check (here with `SSL_CERT_FILE`'s 150 authorities each time) and there is no other
//! core to do it.
//!
//! # Load balancing
//!
//! A simulation of eight servers with eight slots each, in `cargo test` (`upstream::balance`);
//! seconds to the first token, 99th percentile:
//!
//! | | one server ten times as slow | one request in ten ten times as long |
//! |---|--:|--:|
//! | Weir | 1.32 | 3.24 |
//! | by requests in flight alone | 9.6 | 3.0 |
//! | round robin | 485 | 10 |
//!
//! A replica that fails half of its requests receives 2 % of the traffic at most
//! (`a_replica_that_fails_now_and_then_is_left_alone_and_a_sound_one_is_not`). One that has
//! recovered receives requests again within 2 s
//! (`a_replica_that_is_well_again_is_called_again_within_two_seconds`). Hedging cuts a tail of 20 s
//! for 5 % more requests at most (`the_tail_is_cut_within_the_budget_and_the_loser_is_let_go`).
