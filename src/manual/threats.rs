//! Threat model: what is worth protecting, from whom, which defences there are, the tests of each,
//! and what is not defended. Each test named here exists: `tests/tidy/` checks it.
//!
//! # Assets
//!
//! - Keys of model servers and cloud accounts.
//! - GitLab tokens of users.
//! - The code, prompts and responses that pass through.
//! - The operator's network, which Weir can reach and its callers cannot.
//! - The models' time, which costs money.
//! - The service itself.
//!
//! # Actors
//!
//! | who | can | is trusted with |
//! |---|---|---|
//! | a user of GitLab | choose text, files and issues that end up in requests; with an IDE's token call code completion | nothing: what they write is data, in delimited parts of our prompts |
//! | an administrator of GitLab | name models, addresses and keys in requests | addresses outside, unless the operator allows more |
//! | a client with a static key | call everything but GitLab's cloud, and name models and addresses as GitLab does, unless its key is for some `models` only | as an administrator of GitLab, or these models |
//! | a user's IDE with a token of ours | request code completions | the model that the token is bound to |
//! | a stranger on the network | open connections and send bytes | nothing |
//! | a model server | respond | the request it was sent; its bytes are parsed as hostile |
//! | the operator | write the file and the environment | everything |
//!
//! # Threats and defences
//!
//! ## Callers and their permissions
//!
//! | threat | defence | test |
//! |---|---|---|
//! | a stranger calls | without credentials, 401, and nothing is forwarded | `callers_without_a_key_are_401_and_send_nothing` |
//! | an emptied or half-written configuration file | a reload that drops authentication, TLS, `client_ca` or all models is refused | `a_file_that_lost_its_keys_or_its_models_is_not_put_in_force`, `authentication_is_turned_off_only_by_a_file_that_means_it` |
//! | a forged token | RS256 by the named key of its issuer only; `iss`, `aud`, `exp`, `nbf`, instance and realm are checked | `only_rs256_with_the_named_key_is_accepted`, `a_token_with_any_byte_changed_is_refused`, `a_key_inside_the_token_is_not_used`, `gitlabs_keys_come_over_https_from_whom_its_authority_vouches_for`, `claims_that_are_not_ours_are_refused`, `clocks_may_differ_by_thirty_seconds_and_no_more`, `every_refusal_has_the_text_of_the_contract`, `discovery_may_name_another_issuer_but_not_leave_tls` |
//! | a user token for IDEs is forged, altered or used for more | our key and name, valid for an hour; code completion on the model it is bound to, and no address from the request | `a_users_token_that_is_not_ours_or_no_longer_is_refused`, `a_users_token_opens_no_other_call_and_nothing_is_sent`, `a_user_names_no_model_and_no_address`, `a_token_states_its_user_lifetime_and_scope`, `only_its_user_on_its_instance_may_use_it`, `an_ide_completes_by_the_model_its_token_is_bound_to` |
//! | a token with fewer rights | scopes per endpoint | `a_missing_scope_is_403_with_gitlabs_text` |
//! | strangers make Weir fetch keys without end | one fetch at a time, in the background; waiting is bounded in time and number | `a_rotated_key_is_fetched_once_for_any_number_of_requests`, `strangers_cannot_fill_the_gateway_with_waiting_requests`, `a_request_waits_two_seconds_for_a_silent_gitlab_and_not_longer` |
//! | the gateway is open by mistake | `mode = "off"` and short keys do not start on a public address | `an_open_gateway_on_a_public_address_is_refused`, `keys_that_can_be_guessed_are_refused_on_a_public_address` |
//! | a key is used beyond its purpose | `models` of the key, by whatever name or feature the model is requested | `a_key_opens_its_own_models_only_and_sees_no_other`, `a_key_falls_back_only_to_models_that_it_is_for` |
//!
//! ## What is sent, and where
//!
//! | threat | defence | test |
//! |---|---|---|
//! | a request names an internal address (SSRF) | parsed once, resolved once, connected to the resolved address; link-local, metadata, multicast and loopback are refused in every spelling | `link_local_and_metadata_addresses_are_refused_in_every_spelling`, `loopback_is_refused_in_every_spelling_unless_allowed` |
//! | a request directs the operator's cloud credentials to an address of its own | Bedrock is called at the operator's address only; without a token nothing is sent, the key included | `a_requests_bedrock_model_is_called_where_and_as_whom_the_operator_says`, `without_a_token_nothing_goes_out_not_even_the_key` |
//! | requests make Weir fetch credentials without end | one fetch at a time, in the background, at intervals; waiting is bounded in time and number | `concurrent_requests_share_one_fetch_and_a_bounded_number_waits`, `an_authority_that_is_silent_costs_a_request_two_seconds` |
//! | a proxy connects a request's address to another host | resolved and checked before, and requested from the proxy by the checked address; metadata services and this machine are never proxied | `what_a_request_names_is_resolved_and_checked_before_the_proxy_hears_of_it`, `this_machine_and_metadata_services_are_never_proxied` |
//! | the proxy's credentials reach other hosts, or a log | only the CONNECT request carries them | `plain_and_encrypted_servers_are_reached_by_a_tunnel_that_is_kept`, `a_proxy_that_fails_is_named_with_what_to_do`, `no_secret_is_anywhere_at_the_most_talkative_level` |
//! | a redirect leads inside | redirects are not followed | `redirects_are_not_followed`, `every_other_response_is_an_error_with_its_reason` |
//! | headers are forwarded where they should not be | a client's by an allow-list; a model server's all except those of its connection, its host and its account | `of_a_clients_headers_an_allow_list_goes_upstream`, `a_body_passes_byte_for_byte_but_for_the_model_to_a_server_that_speaks_the_same`, `hop_by_hop_headers_and_the_servers_name_stay_behind` |
//! | credentials or addresses of ours go to GitLab's cloud | GitLab's headers only; a static key, a user token, or a self-hosted model's address and key, is refused before; no client certificate; https only | `a_request_goes_on_byte_for_byte_and_with_what_is_gitlabs_alone`, `a_static_key_never_leaves`, `a_users_token_does_not_go_to_gitlabs_cloud`, `a_self_hosted_models_address_and_key_never_leave`, `only_model_servers_get_the_client_certificate`, `the_cloud_is_reached_safely_or_not_at_all` |
//!
//! ## TLS
//!
//! | threat | defence | test |
//! |---|---|---|
//! | eavesdropping between a client and Weir | TLS 1.2 or 1.3 by rustls; a certificate and a key that do not match are a configuration error, a broken new one changes nothing | `both_versions_answer_over_http_1_1`, `certificates_that_cannot_work_are_faults_of_the_file`, `a_new_certificate_is_taken_while_a_stream_runs_and_a_broken_one_is_not` |
//! | a stranger on the network, where clients are known | `server.tls.client_ca`: without a certificate of those authorities no request is served | `with_client_ca_only_its_clients_get_in` |
//! | a client's key is stolen | `server.tls.client_crl`: revocation lists, read again when they change | `a_revoked_client_is_out_with_the_next_list_and_without_a_restart` |
//! | eavesdropping between Weir and a model server | certificates are verified against the system's authorities and the configured ones; verification cannot be turned off | `a_model_server_with_a_private_authority_is_believed_only_when_it_is_named`, `identities_that_cannot_work_are_faults_of_the_file` |
//! | a model server takes Weir for another client | a client certificate for all models or for one; a kept connection is used only with the identity it was made with | `a_model_server_that_asks_is_shown_the_operators_certificate`, `a_connection_made_with_one_identity_is_never_anothers` |
//! | handshakes that do not end, plain HTTP on the TLS port | closed within `limits.header_timeout`, counted | `plain_http_and_silence_are_let_go` |
//!
//! ## Hostile bytes
//!
//! | threat | defence | test |
//! |---|---|---|
//! | request smuggling, response splitting | ambiguous framing is refused on both sides; names and lengths are those of the codec | `a_smuggled_request_is_never_answered`, `a_model_servers_header_cannot_become_two`, `ambiguous_framing_is_refused`, `refuses_ambiguous_framing`, `bytes_behind_an_answer_never_become_the_next_answer` |
//! | two `model` fields, one for the check and one for the server | a repeated field is refused; the value that was read is the value that is replaced | `repeated_fields_do_not_smuggle_a_second_model` |
//! | one HTTP/2 connection stands for many clients | 128 streams; small windows and buffers; a stream that the client does not read does not outlive its timeouts | `a_connection_has_so_many_streams_and_no_more`, `streams_that_take_nothing_hold_little`, `large_windows_of_a_client_that_does_not_read_hold_little`, `a_stream_that_takes_nothing_stalls_alone_and_does_not_outlive_the_total` |
//! | requests opened to be reset at once (rapid reset, CVE-2023-44487), or to make the server reset them (CVE-2025-8671) | counted; the connection is closed | `requests_that_are_opened_to_be_reset_end_their_connection` |
//! | headers that expand without bound, or never end (HPACK, CONTINUATION) | `limits.max_headers` applies to the decoded size | `a_head_over_the_limit_is_431_and_one_without_end_ends_the_connection` |
//! | HTTP/2 connections that stall after their first bytes | closed within `limits.header_timeout` | `what_begins_wrong_or_not_at_all_is_let_go` |
//! | a hostile or broken model server | bounded heads, events and bodies; parsers are fuzzed | `an_endless_head_is_refused_and_not_held`, `an_endless_answer_is_refused_and_not_held`, `broken_chunks_are_errors`, `an_event_of_ten_megabytes_is_an_error_and_not_held`, `garbage_is_a_clean_502` |
//! | deep or damaged JSON | parsing is bounded in depth | `deep_nesting_harms_nobody` |
//!
//! ## Overload
//!
//! | threat | defence | test |
//! |---|---|---|
//! | one address holds all connections | `limits.connections_per_client`; idle ones are closed after `header_timeout` | `an_address_has_so_many_connections_and_no_more`, `a_connection_that_is_kept_is_closed_when_nothing_comes` |
//! | slow or endless clients | limits on heads, bodies, connections and waits | `clients_that_do_not_finish_are_let_go`, `headers_over_the_limit_are_431`, `a_body_over_the_limit_is_413_before_it_is_read`, `a_reader_that_stopped_reading_does_not_outlive_the_total` |
//! | more requests than the models can serve | a concurrency limit and a bounded queue | `beyond_the_permits_and_the_queue_it_is_503_with_retry_after` |
//! | one caller uses up the models' time | `requests_per_minute` and `tokens_per_minute` by caller; 429 before anything is sent, in bounded memory | `over_its_requests_a_minute_a_caller_is_429_and_nothing_is_sent`, `tokens_are_charged_when_the_answer_ends_and_the_next_request_waits_for_the_debt`, `callers_are_bounded_and_full_buckets_are_evicted_first` |
//! | the Redis that gateways share is slow, down or lost | at most 50 ms per request, then no request until it is back; no request fails because of it | `while_redis_is_away_each_counts_for_itself_and_it_comes_back`, `a_redis_that_does_not_answer_holds_a_request_for_a_moment_and_fails_none` |
//! | one model's requests overload its server, or background jobs delay completions | a concurrency limit per model, a bounded queue by class; the newest of the lowest class is evicted first | `no_more_than_max_parallel_and_completions_before_chat_before_jobs`, `beyond_the_models_queue_it_is_503_at_once_and_a_completion_takes_a_jobs_permit` |
//! | a client puts itself first in a model server's queue | with `priority` the number is Weir's, and overrides every one of the client's | `a_clients_own_number_overtakes_nobody` |
//!
//! ## What is written down
//!
//! | threat | defence | test |
//! |---|---|---|
//! | a secret in a log, a page or an error | `Secret` prints as dots; what is logged of a model server is for the operator only; a server's message that repeats its key, or mentions keys at all, is withheld | `no_secret_is_anywhere_at_the_most_talkative_level`, `no_slot_is_forgotten`, `no_secret_is_anywhere`, `no_secret_is_ever_shown`, `a_fault_beside_a_secret_does_not_show_it`, `a_key_that_a_model_server_repeats_is_dots_in_the_log`, `a_key_that_the_model_server_repeats_reaches_no_client` |
//! | what users wrote appears in a log | not logged, unless both the operator's file and GitLab allow it; then truncated, and without what looks like a key | `prompts_are_logged_only_where_file_and_request_allow_it_and_without_keys` |
//! | a core dump, or another process of the same user that reads memory | none is written, and reading is denied | `a_crash_leaves_no_core_dump` |
//! | a full disk or a slow reader ends the access log | only a reader that is gone ends it; other errors lose lines, which are counted and reported | `a_full_disk_loses_lines_and_not_the_log` |
//! | a forged log line | ids and paths are escaped | `hostile_ids_and_paths_stay_one_line` |
//! | a path becomes a metric's label | labels are closed sets | `the_path_of_an_unknown_request_is_no_label` |
//!
//! ## The machine
//!
//! | threat | defence | test |
//! |---|---|---|
//! | another user of the machine takes the port, or offers one, in place of a process that is being replaced | both sides check the user of the other | `only_the_same_user_and_root_may_have_the_sockets`, `a_process_that_is_not_weir_is_rejected` |
//!
//! # Not defended
//!
//! - **Prompt injection**, text that misleads a model: our prompts delimit what users wrote, and no
//!   filter is attempted. What a model may do is decided by GitLab, which runs the tools with the
//!   user's rights.
//! - **A private address that an administrator of GitLab names**: models run there.
//!   `features.request_models = "listed"` closes it.
//! - **Client certificates revoked since the list was written**: there is no online check (OCSP),
//!   and an outdated list stays in force.
//! - **A hostile resolver**: names are trusted to the network's DNS; https is verified against the
//!   name.
//! - **The machine**: anyone who can read the process's memory or the file can read its secrets.
//! - **Timing of a model's responses**, which reveals how long they are.
