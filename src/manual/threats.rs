//! Threat model: what is worth protecting, from whom, where the borders are, what is defended and
//! by which test, and what is not. A test named here exists: `tests/tidy.rs` looks for it.
//!
//! # Assets
//!
//! Keys of model servers and cloud accounts; users' tokens of GitLab; the code, prompts and answers
//! that pass; the operator's network, which Weir can reach and its callers cannot; the models'
//! time, which costs money; the service itself.
//!
//! # Actors
//!
//! | who | can | is trusted with |
//! |---|---|---|
//! | a user of GitLab | choose words, files and issues that end up in requests; with an IDE's token call code completion | nothing: what they write is data, in fenced places of our prompts |
//! | an administrator of GitLab | name models, addresses and keys in requests | addresses outside, unless the operator allows more |
//! | a client with a static key | call everything but GitLab's cloud, and name models and addresses as GitLab does, unless its key is for some `models` only | as an administrator of GitLab, or these models |
//! | a user's IDE with a token of ours | ask for code completions | the model that the token is bound to |
//! | a stranger on the network | open connections and send bytes | nothing |
//! | a model server | answer | the request it was sent; its bytes are parsed as hostile |
//! | the operator | write the file and the environment | everything |
//!
//! # Borders and defences
//!
//! | threat | defence | test |
//! |---|---|---|
//! | a stranger calls | no credentials, no answer, and nothing is sent on | `callers_without_a_key_are_401_and_send_nothing` |
//! | a forged token | RS256 by the named key of its issuer only; `iss`, `aud`, `exp`, `nbf`, instance and realm are checked | `only_rs256_with_the_named_key_is_believed`, `no_change_of_a_byte_is_believed`, `a_key_that_the_token_brings_itself_is_not_used`, `gitlabs_keys_come_over_https_from_whom_its_authority_vouches_for`, `claims_that_are_not_ours_are_refused`, `clocks_may_differ_by_thirty_seconds_and_no_more`, `every_refusal_is_the_contracts_word_for_word`, `discovery_may_name_another_issuer_but_not_leave_tls` |
//! | a token of a user's IDE is made up, changed or used for more | our key and name, an hour; code completion by the model it is bound to, and no address of the request's | `a_users_token_that_is_not_ours_or_no_longer_is_refused`, `a_users_token_opens_no_other_call_and_nothing_is_sent`, `a_user_names_no_model_and_no_address`, `a_token_says_who_for_how_long_and_for_what`, `only_its_user_on_its_instance_may_use_it`, `an_ide_completes_by_the_model_its_token_is_bound_to` |
//! | a token for less | scopes per endpoint | `a_missing_scope_is_403_in_gitlabs_words` |
//! | strangers make Weir fetch keys for ever | one fetch at a time, in the background; waiting is bounded in time and number | `a_rotated_key_is_fetched_once_however_many_ask_for_it`, `strangers_cannot_fill_the_gateway_with_waiting_requests`, `a_request_waits_two_seconds_for_a_silent_gitlab_and_not_longer` |
//! | the gateway is open by mistake | `mode = "off"` and short keys do not start on a public address | `an_open_gateway_on_a_public_address_is_refused`, `keys_that_can_be_guessed_are_refused_on_a_public_address` |
//! | a request names an address inside (SSRF) | parsed once, resolved once, connected to what was resolved; link-local, metadata, multicast and loopback are refused in every spelling | `link_local_and_metadata_addresses_are_refused_in_every_spelling`, `loopback_is_refused_in_every_spelling_unless_allowed` |
//! | a request draws the operator's cloud credentials to itself | Bedrock is asked at the operator's address only; without a token nothing is sent, not the key either | `a_requests_bedrock_model_is_asked_where_and_as_whom_the_operator_says`, `without_a_token_nothing_goes_out_not_even_the_key` |
//! | requests make Weir ask for credentials for ever | one fetch at a time, in the background, at intervals; waiting is bounded in time and number | `many_that_ask_make_one_fetch_and_few_of_them_wait`, `an_authority_that_is_silent_costs_a_request_two_seconds` |
//! | a proxy takes a request's address elsewhere | resolved and checked before, and the proxy is asked for the address that was checked; metadata services and this machine are never asked of it | `what_a_request_names_is_resolved_and_checked_before_the_proxy_hears_of_it`, `this_machine_and_metadata_services_are_never_proxied` |
//! | the proxy's credentials go further, or into a log | only its own request has them | `plain_and_encrypted_servers_are_reached_by_a_tunnel_that_is_kept`, `a_proxy_that_fails_is_named_with_what_to_do`, `no_secret_is_anywhere_at_the_most_talkative_level` |
//! | a redirect leads inside | none is followed | `redirects_are_not_followed`, `what_is_no_document_is_told` |
//! | request smuggling, response splitting | ambiguous framing is refused on both sides; names and lengths are the codec's | `a_smuggled_request_is_never_answered`, `a_model_servers_header_cannot_become_two`, `ambiguous_framing_is_refused`, `refuses_ambiguous_framing`, `bytes_behind_an_answer_never_become_the_next_answer` |
//! | two `model` fields, one for the check and one for the server | a repeated field is refused; the value that was read is the value that is replaced | `repeated_fields_do_not_smuggle_a_second_model` |
//! | headers go where they should not | a client's by an allow-list; of a model server's all but those of its connection, its host and its account | `of_a_clients_headers_an_allow_list_goes_upstream`, `a_body_passes_byte_for_byte_but_for_the_model_to_a_server_that_speaks_the_same`, `hop_by_hop_headers_and_the_servers_name_stay_behind` |
//! | something of ours goes to GitLab's cloud | GitLab's headers only; a static key, a token of ours, or a self-hosted model's address and key, is refused before; no client certificate; https only | `a_request_goes_on_byte_for_byte_and_with_what_is_gitlabs_alone`, `a_static_key_never_leaves`, `a_users_token_does_not_go_to_gitlabs_cloud`, `a_self_hosted_models_address_and_key_never_leave`, `only_model_servers_are_shown_the_models_certificate`, `the_cloud_is_reached_safely_or_not_at_all` |
//! | somebody between a client and us listens | TLS 1.2 or 1.3 by rustls; a certificate and a key that do not fit are a fault of the file, a broken new one changes nothing | `both_versions_answer_over_http_1_1`, `certificates_that_cannot_work_are_faults_of_the_file`, `a_new_certificate_is_taken_while_a_stream_runs_and_a_broken_one_is_not` |
//! | a stranger on the network, where clients are known | `server.tls.client_ca`: no certificate of those authorities, no request | `with_client_ca_only_its_clients_get_in` |
//! | a client's key is stolen | `server.tls.client_crl`: lists of revoked certificates, read again when they change | `a_revoked_client_is_out_with_the_next_list_and_without_a_restart` |
//! | somebody between us and a model server | verified against the system's authorities and those that are named; there is no switch to turn it off | `a_model_server_with_a_private_authority_is_believed_only_when_it_is_named`, `identities_that_cannot_work_are_faults_of_the_file` |
//! | a model server takes us for somebody else | a client certificate of all models or of one; a kept connection is for the identity that it was made with | `a_model_server_that_asks_is_shown_the_operators_certificate`, `a_connection_made_with_one_identity_is_never_anothers` |
//! | handshakes that do not end, plain HTTP on the TLS port | closed within `limits.header_timeout`, counted | `plain_http_and_silence_are_let_go` |
//! | one address holds all connections | `limits.connections_per_client`; what is idle is closed after `header_timeout` | `an_address_has_so_many_connections_and_no_more`, `a_connection_that_is_kept_is_closed_when_nothing_comes` |
//! | slow or endless clients | limits on heads, bodies, connections and waits | `clients_that_do_not_finish_are_let_go`, `headers_over_the_limit_are_431`, `a_body_over_the_limit_is_413_before_it_is_read`, `a_reader_that_stopped_reading_does_not_outlive_the_total` |
//! | one connection of HTTP/2 stands for many clients | 128 streams; small windows and buffers; a stream that takes nothing does not outlive its limits | `a_connection_has_so_many_streams_and_no_more`, `streams_that_take_nothing_hold_little`, `large_windows_of_a_client_that_does_not_read_hold_little`, `a_stream_that_takes_nothing_stalls_alone_and_does_not_outlive_the_total` |
//! | requests opened to be reset at once (rapid reset, CVE-2023-44487), or to make us reset them (CVE-2025-8671) | counted; the connection ends | `requests_that_are_opened_to_be_reset_end_their_connection` |
//! | headers that unpack to much, or never end (HPACK, CONTINUATION) | `limits.max_headers` counts them unpacked | `a_head_over_the_limit_is_431_and_one_without_end_ends_the_connection` |
//! | beginnings of HTTP/2 that do not go on | closed within `limits.header_timeout` | `what_begins_wrong_or_not_at_all_is_let_go` |
//! | another user of the machine takes the port, or offers one, in the place of a process that is being replaced | both sides look at who the other is | `only_the_same_user_and_root_may_have_the_sockets`, `what_is_no_weir_is_not_believed` |
//! | more requests than the models bear | bounded places and a bounded queue | `beyond_the_places_and_the_queue_it_is_503_with_retry_after` |
//! | one caller uses up the models' time | `requests_per_minute` and `tokens_per_minute` by caller; 429 before anything is sent, in bounded memory | `over_its_requests_a_minute_a_caller_is_429_and_nothing_is_sent`, `tokens_are_charged_when_the_answer_ends_and_the_next_request_waits_for_the_debt`, `callers_are_remembered_in_bounded_number_and_full_buckets_go_first` |
//! | the Redis that gateways share is slow, away or lost | asked for at most 50 ms, then not at all until it is back; never a request's failure | `while_redis_is_away_each_counts_for_itself_and_it_comes_back`, `a_redis_that_does_not_answer_holds_a_request_for_a_moment_and_fails_none` |
//! | a key is used for more than it is for | `models` of the key, by whatever name or feature the model is asked for | `a_key_opens_its_own_models_only_and_sees_no_other`, `a_key_falls_back_only_to_models_that_it_is_for` |
//! | one model's requests crowd its server, or background jobs those at a cursor | places at each model, a bounded queue by class; the last of the lowest class goes first | `no_more_than_max_parallel_and_completions_before_chat_before_jobs`, `beyond_the_models_queue_it_is_503_at_once_and_a_completion_takes_a_jobs_place` |
//! | a client puts itself before everybody in a model server's queue | with `priority` the number is ours, over every one of the client's | `a_clients_own_number_overtakes_nobody` |
//! | a hostile or broken model server | bounded heads, events and bodies; parsers are fuzzed | `an_endless_head_is_refused_and_not_held`, `an_endless_answer_is_refused_and_not_held`, `broken_chunks_are_errors`, `an_event_of_ten_megabytes_is_an_error_and_not_held`, `garbage_is_a_clean_502` |
//! | deep or damaged JSON | parsing is bounded in depth | `deep_nesting_harms_nobody` |
//! | a secret in a log, a page or an error | `Secret` prints as dots; what is logged of a model server is the operator's only; words of a server that repeat its key, and all it says of keys, are withheld | `no_secret_is_anywhere_at_the_most_talkative_level`, `no_slot_is_forgotten`, `no_secret_is_anywhere`, `no_secret_is_ever_shown`, `a_fault_beside_a_secret_does_not_show_it`, `a_key_that_a_model_server_repeats_is_dots_in_the_log`, `a_key_that_the_model_server_repeats_reaches_no_client` |
//! | what users wrote in a log | nowhere, unless the operator's file and GitLab both allow it; then cut, and without what looks like a key | `prompts_are_logged_only_where_file_and_request_allow_it_and_without_keys` |
//! | a core dump, or another process of the same user that looks | none is written, and nobody may look | `a_crash_leaves_no_core_dump` |
//! | a forged log line | ids and paths are escaped | `hostile_ids_and_paths_stay_one_line` |
//! | a path becomes a metric's label | labels are closed sets | `the_path_of_an_unknown_request_is_no_label` |
//!
//! # Not defended
//!
//! - Words that mislead a model (prompt injection): our prompts fence what users wrote, no filter
//!   is tried. What a model may do is decided by GitLab, which runs the tools with the user's
//!   rights.
//! - A private address that an administrator of GitLab names: models run there.
//!   `features.request_models = "listed"` closes it.
//! - Client certificates that were revoked since the list was written: nobody is asked online
//!   (OCSP), and an old list counts on.
//! - A resolver that lies: names are trusted to the network's DNS; https is verified against the
//!   name.
//! - The machine: whoever reads the process's memory or the file reads its secrets.
//! - Timing of a model's answers, which tells how long they are.
