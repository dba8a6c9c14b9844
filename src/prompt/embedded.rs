//! The prompt files of `config/prompts/`, embedded in the program. A test compares the list with
//! the directory.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../config/prompts/", $path)))),*]
    };
}

/// Path below `config/prompts/` and text.
pub(super) const FILES: &[(&str, &str)] = files![
    "categorize_question/base.toml",
    "chat/agent/base.toml",
    "chat/build_reader/base.toml",
    "chat/commit_reader/base.toml",
    "chat/documentation_search/base.toml",
    "chat/epic_reader/base.toml",
    "chat/explain_code/base.toml",
    "chat/explain_vulnerability/base.toml",
    "chat/fix_code/base.toml",
    "chat/issue_reader/base.toml",
    "chat/merge_request_reader/base.toml",
    "chat/react/base.toml",
    "chat/refactor_code/base.toml",
    "chat/summarize_comments/base.toml",
    "chat/troubleshoot_job/base.toml",
    "chat/work_item_reader/base.toml",
    "chat/write_tests/base.toml",
    "classify_code_review_mention_intent/base.toml",
    "code_suggestions/completions/base.toml",
    "code_suggestions/generations/base.toml",
    "code_suggestions/generations/codegemma.toml",
    "feature_discovery_search/base.toml",
    "generate_commit_message/base.toml",
    "generate_description/base.toml",
    "generate_session_title/base.toml",
    "glab_ask_git_command/base.toml",
    "measure_comment_temperature/base.toml",
    "resolve_vulnerability/base.toml",
    "review_merge_request/base.toml",
    "shared/chat.txt",
    "shared/data.txt",
    "shared/reader.txt",
    "summarize_duo_workflow/base.toml",
    "summarize_new_merge_request/base.toml",
    "summarize_review/base.toml",
];
