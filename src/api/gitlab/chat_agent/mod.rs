//! `POST /v2/chat/agent`: one step of GitLab Duo Chat.

mod react;
