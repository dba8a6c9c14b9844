//! Decisions on the configuration file and the features. Newest first.
//!
//! # 2026-11-30: A reload does not drop a protection by omission
//!
//! **Decision.** A reload is refused as a whole when its file no longer configures the
//! authentication, the TLS or the `client_ca` that the running gateway has, or has no model.
//! `auth.mode = "off"` must be written to be off; on a public listener, which stays open until a
//! restart whatever the file says of its address, `auth.allow_public` too.
//!
//! **Because.** An emptied or half-written file is a valid configuration, whose defaults are meant
//! for a first start on loopback. It opened a running gateway on a public address (an attack on
//! d65ef98 showed it), and answered every request with 404.
//!
//! **Rejected.** Checking only the new file's `listen`: it says nothing of the socket that is open.
//!
//! # 2026-11-26: The depth of JSON is not configurable
//!
//! **Decision.** The limit is serde_json's 128 where a value is built. What is only passed on is
//! skipped without recursion, however deep it is.
//!
//! **Because.** A lower limit would cost every forwarded body a pass of its own, and protect model
//! servers from what they limit themselves.
//!
//! # 2026-11-26: Secret files that others may read are accepted
//!
//! **Decision.** The permissions of a secret file are not checked.
//!
//! **Because.** Kubernetes mounts secrets readable by everyone in the pod, and a warning that
//! appears everywhere is read nowhere.
//!
//! # 2026-11-25: Families are data, not an enum
//!
//! **Decision.** Model families are defined in `config/families.toml`. An unknown name in a request
//! is treated as `general`.
//!
//! **Because.** No code matched on the names except tables, and operators bring models that GitLab
//! has no name for.
//!
//! # 2026-11-24: Features are a table in code
//!
//! **Decision.** The features of GitLab are a table in code.
//!
//! **Because.** The set is closed, other code names its members, and so the compiler finds a
//! misspelling.
//!
//! **Rejected.** `config/features.toml`.
//!
//! # 2026-11-24: The configuration is walked, not derived
//!
//! **Decision.** The reader walks the document. One table of keys is the schema for parsing, for
//! suggestions and for `config/reference.toml`.
//!
//! **Because.** Operators need all errors at once, with line and column.
//!
//! **Rejected.** serde's derive: it stops at the first error.
