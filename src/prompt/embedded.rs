//! The prompt files of `config/prompts/`, as part of the program. A test holds the list against the directory.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../config/prompts/", $path)))),*]
    };
}

/// Path below `config/prompts/` and text.
pub(super) const FILES: &[(&str, &str)] =
    files!["chat/explain_code/base.toml", "generate_commit_message/base.toml", "shared/data.txt",];
