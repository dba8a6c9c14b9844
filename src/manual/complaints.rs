//! What users of other gateways complain about, and the test here that would fail if it applied to
//! Weir.
//!
//! The numbers are those of a survey of other gateways that was made for the design. Each test
//! named here exists: `tests/tidy/` checks it.
//!
//! | # | complaint | in Weir | test |
//! |--:|---|---|---|
//! | 1 | memory grows until the process is killed, worst with streams | a stream owns everything it uses and drops it; nothing is kept per chunk | `an_event_of_ten_megabytes_is_an_error_and_not_held`, `an_endless_head_is_refused_and_not_held`, `a_reader_that_stops_stalls_its_own_server_and_nobody_elses` |
//! | 2 | the client disconnects, the model goes on (streamed) | dropping the body closes the model server's connection | `the_model_server_is_reported_at_once_on_every_call`, `a_client_that_leaves_cancels_the_model_in_every_phase` |
//! | 3 | the same, not streamed | the same drop | `the_model_server_is_reported_at_once_on_every_call`, `a_slot_in_the_queue_is_given_up_at_once_on_every_call` |
//! | 4 | abandoned streams keep a connection or a concurrency slot | permits and counts are guards inside the body | `a_stream_that_is_read_faster_than_it_is_left_still_ends_everything`, `two_thousand_partings_leave_nothing_behind`, `a_stream_keeps_its_permit_until_it_ends_or_its_client_leaves` |
//! | 5 | usage is lost or counted twice when a client disconnects | reported counts are exact; others are estimated and marked | `a_stream_that_is_left_is_estimated_from_what_passed`, `running_counts_are_exact`, `what_was_counted_or_never_began_is_no_estimate` |
//! | 6 | the stream timeout does not run before the first chunk | `first_byte` runs from the request to the first byte of the body | `every_limit_is_a1000_for_streams` |
//! | 7 | timeouts for the first token and for the gap between two, with failover | `first_byte` and `idle`; after an expired `first_byte` the next replica is tried | `whatever_fails_before_the_first_content_is_answered_by_the_other_replica`, `every_limit_is_a1000_for_streams` |
//! | 8 | a total timeout cuts healthy long streams | `idle` restarts with every chunk; `total` is a separate, documented timeout | `progress_restarts_idle_and_a_finished_answer_expires_nothing` |
//! | 9 | latency explodes under load, connections run out | no shared pool to wait for: a connection per request in flight, kept ones bounded | `connections_are_kept_on_both_sides`, `replicas_share_the_requests_in_flight`, `at_twice_what_a_model_bears_it_is_kept_busy_and_the_rest_is_reported_at_once`, `a_replica_that_fails_now_and_then_is_left_alone_and_a_sound_one_is_not` |
//! | 10 | a changed file needs a restart | watched, checked, swapped | `an_edited_file_moves_traffic_however_it_is_saved`, `two_hundred_reloads_under_traffic_lose_no_request` |
//! | 11 | Bedrock's ids with `:` are encoded twice | one encoding for path and signature | `bedrock_takes_our_signatures_and_bodies`, `paths_hosts_and_the_api_key` |
//! | 12 | Bedrock's ARNs; a 200 that is an error | `/` is `%2F` in the path; a body that is not an event stream never reaches the decoder | `a_200_that_is_json_or_a_page_never_reaches_the_frame_decoder`, `a_whole_200_that_is_an_error` |
//! | 13 | Bedrock's exception frames are lost or misread | the frame's type decides, not a status inside it | `exceptions_before_and_after_the_first_token`, `every_row_of_the_table` |
//! | 14 | Bedrock's tools: config missing when the history has calls, names too long, empty arguments | offered whenever the history has calls; names are mapped and restored | `a_history_of_calls_wants_tools`, `tools_are_offered_chosen_and_renamed` |
//! | 15 | wrong indices of tools and blocks in streams | a running index of our own | `calls_run_from_zero_whatever_the_server_numbers`, `calls_have_a_running_index_of_our_own_and_usage_comes_last` |
//! | 16 | bodies over 32 KiB are refused | 64 MiB, set in the file | `large_bodies_pass_in_both_directions`, `a_body_over_the_limit_is_413_before_it_is_read` |
//! | 17 | streams arrive in one piece | each event is forwarded as it arrives | `each_event_is_sent_on_at_once`, `a_stream_comes_as_it_is_made_and_is_not_looked_into` |
//! | 18 | a 429 without `Retry-After` | ours has one; the model server's is passed through | `beyond_the_permits_and_the_queue_it_is_503_with_retry_after`, `milliseconds_are_preferred_and_rounded_up`, `when_all_are_busy_the_client_comes_back_when_the_first_says_so`, `over_its_requests_a_minute_a_caller_is_429_and_nothing_is_sent` |
//! | 19 | an error inside a 200 stream triggers no retry | everything before the first content is held, and an error in it is a failure like any other | `whatever_fails_before_the_first_content_is_answered_by_the_other_replica`, `an_error_before_the_first_word_is_a_status`, `a_model_of_another_dialect_answers_on_every_surface` |
//! | 20 | fetching AWS credentials blocks, or happens per request | fetched in the background, one fetch at a time, refreshed before they expire | `the_first_fetch_is_on_request_and_the_next_before_expiry`, `concurrent_requests_share_one_fetch_and_a_bounded_number_waits` |
//! | 21 | Azure's paths and versions | dated or `v1`, by one key, and mistakes are reported | `paths_by_version`, `azure_needs_a_key_and_the_resources_root` |
//! | 22 | tokens of streams counted twice | the last report counts | `what_was_reported_stands`, `content_chunks_that_carry_usage_are_not_hidden` |
//! | 23 | a header or a body redirects requests, and keys, elsewhere | addresses come from the file; a request's are checked after resolution and get no key of ours | `link_local_and_metadata_addresses_are_refused_in_every_spelling`, `a_requests_bedrock_model_is_called_where_and_as_whom_the_operator_says`, `what_a_request_names_is_resolved_and_checked_before_the_proxy_hears_of_it` |
//! | 24 | secrets in logs and pages | `Secret` prints dots | `no_secret_is_anywhere`, `no_secret_is_ever_shown`, `no_secret_is_anywhere_at_the_most_talkative_level` |
//! | 25 | a timeout becomes a 500, the text of a refusal is swallowed | one table: 504 and A1000; the server's own text is passed through | `every_limit_is_a1000_for_whole_answers`, `the_model_servers_own_refusals_pass`, `every_fault_is_reported_on_every_call` |
//! | 26 | a retried request is no longer the original | each attempt is built anew from the same request; the state of the failed one is discarded | `whatever_fails_before_the_first_content_is_answered_by_the_other_replica`, `retries_are_a_share_of_what_is_called` |
//! | 27 | `max_parallel_requests` is not kept | per model, across all workers, counted until the body ends; a queue by class behind it | `no_more_than_max_parallel_and_completions_before_chat_before_jobs`, `beyond_the_models_queue_it_is_503_at_once_and_a_completion_takes_a_jobs_permit` |
//! | 28 | silence cuts long streams | heartbeats where clients skip them | `a_silence_is_broken_by_blank_lines_before_the_first_word_and_after_it`, `beats_before_the_first_word_do_not_keep_it_from_falling_back` |
//! | 31 | probes fail while the process is alive | the admin listener has a thread of its own | `the_admin_listener_answers_and_is_not_public`, `a_model_that_is_down_leaves_the_gateway_ready` |
//! | 32 | time in a queue is in no log | reported separately from the model's time and ours, in log, metrics and `/status` | `a_wait_is_bounded_and_seen_in_the_log_the_metrics_and_the_status` |
//!
//! # Covered otherwise
//!
//! - 29, a read-only file system and any user: `.ci/sealed` serves and is replaced as user 12345
//!   where nothing can be written. The Dockerfile itself has not been built here.
//! - 30, the supply chain: `Cargo.lock`, `cargo deny`, [`super::threats`].
