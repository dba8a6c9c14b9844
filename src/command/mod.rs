//! The command line: parses it, runs one command, returns its exit code.

mod check;
mod demo;
mod docs;
mod explain;
mod healthcheck;
mod out;
mod probe;
mod prompts;
mod serve;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use out::Out;

use crate::config::{self, Config, Environment, Faults};

/// `EX_CONFIG` of sysexits.h, which service managers take as "do not restart, fix the file".
const BAD_CONFIG: u8 = 78;

/// An AI gateway: GitLab Duo requests, routed by feature to the model you chose.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  weir demo                                try it: no file, no network
  weir check --config weir.toml            print the faults of the file, or its routing table
  weir explain code_completions            show why a feature is routed to its model
  weir serve --config /etc/weir/weir.toml  run; SIGHUP or an edit reloads, SIGTERM drains
";

const SERVE_EXAMPLES: &str = "\
Examples:
  weir serve --config /etc/weir/weir.toml
  weir serve --config /etc/weir/weir.toml --replace   upgrade: no request is lost

Exit codes: 0 drained, 78 the configuration has faults, 1 anything else.";

const DEMO_EXAMPLES: &str = "\
Example:
  weir demo

Prints curl commands to paste.";

const CHECK_EXAMPLES: &str = "\
Examples:
  weir check
  weir check --config weir.toml

Exit codes: 0 no faults, 78 the configuration has faults.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  weir explain duo_chat_fix_code
  weir explain default --config weir.toml";

const PROBE_EXAMPLES: &str = "\
Examples:
  weir probe
  weir probe codestral --config weir.toml

Exit codes: 0 all succeeded, 1 at least one failed.";

const PROMPTS_EXAMPLES: &str = "\
Examples:
  weir prompts list
  weir prompts show generate_commit_message
  weir prompts render generate_commit_message --input diff=@change.diff --family mistral

To change one, put its file into the directory of [prompts] dir:
  mkdir -p prompts/chat/explain_code
  weir prompts show chat/explain_code > prompts/chat/explain_code/base.toml";

const HEALTHCHECK_EXAMPLES: &str = "\
Examples:
  weir healthcheck
  weir healthcheck http://127.0.0.1:8082/ready";

const DOCS_INDEX_EXAMPLES: &str = "\
Example:
  git clone --depth 1 https://gitlab.com/gitlab-org/gitlab.git
  weir docs index gitlab/doc -o gitlab-docs.index";

const PROMPTS_LIST_EXAMPLES: &str = "\
Example:
  weir prompts list";

const PROMPTS_SHOW_EXAMPLES: &str = "\
Examples:
  weir prompts show review_merge_request
  weir prompts show code_suggestions/generations --family codegemma";

const PROMPTS_RENDER_EXAMPLES: &str = "\
Examples:
  weir prompts render chat/explain_code
  weir prompts render generate_commit_message --input diff=@change.diff
  weir prompts render chat/write_tests --input selected_text='def f(): pass' \\
    --input libraries='[\"pytest\"]'";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Run with a built-in model server: no file, no network
    #[command(after_help = DEMO_EXAMPLES)]
    Demo,
    /// Check the file without starting: print every fault, or the routing table
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Show how a feature is routed, and which line of the file decides each part
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Send one real request to each endpoint of each model
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(Probe),
    /// Make GitLab's documentation searchable
    Docs(Docs),
    /// List, show and render the prompts in force
    #[command(after_help = PROMPTS_EXAMPLES)]
    Prompts(Prompts),
    /// Exit 0 when a running gateway is ready (for a container's HEALTHCHECK)
    #[command(after_help = HEALTHCHECK_EXAMPLES)]
    Healthcheck(Healthcheck),
}

/// `--config`
#[derive(Debug, Args)]
struct File {
    /// The configuration file; else $WEIR_CONFIG, ./weir.toml, /etc/weir/weir.toml
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    file: File,
    /// Replace the process that serves on this admin address, if there is one; it drains and ends
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: File,
    /// Print every key with its default and exit (config/reference.toml)
    #[arg(long)]
    reference: bool,
}

#[derive(Debug, Args)]
struct Explain {
    /// A feature's name in the file, or `default`
    feature: String,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
struct Probe {
    /// Probe only this model
    model: Option<String>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
struct Docs {
    #[command(subcommand)]
    command: DocsCommand,
}

#[derive(Debug, Subcommand)]
enum DocsCommand {
    /// Write an index of a tree of Markdown files, for docs.index in the configuration
    #[command(after_help = DOCS_INDEX_EXAMPLES)]
    Index {
        /// The documentation's root: `doc` in GitLab's repository
        dir: PathBuf,
        /// The file to write; an existing one is replaced
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Prompts {
    #[command(subcommand)]
    action: PromptsAction,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Subcommand)]
enum PromptsAction {
    /// List every prompt: its family, the feature that routes it, its inputs (`?` is optional)
    #[command(after_help = PROMPTS_LIST_EXAMPLES)]
    List,
    /// Print a prompt's file, as it is in force
    #[command(after_help = PROMPTS_SHOW_EXAMPLES)]
    Show {
        /// GitLab's name of the prompt
        id: String,
        /// Use the prompt for models of this family
        #[arg(long, value_name = "FAMILY")]
        family: Option<String>,
    },
    /// Print what a model receives; inputs that are not given have the values of the file's example
    #[command(after_help = PROMPTS_RENDER_EXAMPLES)]
    Render {
        /// GitLab's name of the prompt
        id: String,
        /// NAME=VALUE, NAME=@FILE, or a list or an object as JSON; repeatable
        #[arg(long, value_name = "NAME=VALUE")]
        input: Vec<String>,
        /// Use the prompt for models of this family
        #[arg(long, value_name = "FAMILY")]
        family: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Healthcheck {
    /// The URL to request; else /ready of admin.listen
    url: Option<String>,
    #[command(flatten)]
    file: File,
}

/// Parses the arguments, runs the command, and returns its exit code: 2 for arguments that cannot
/// be parsed.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let env = Environment::of_process();
    let mut out = Out::standard(&env);
    match Line::try_parse_from(args) {
        Ok(line) => dispatch(line.command, &env, &mut out),
        Err(error) => {
            let _ = error.print();
            // 2 for arguments that cannot be parsed, 0 for --help
            u8::try_from(error.exit_code()).unwrap_or(2).into()
        }
    }
}

fn dispatch(command: Command, env: &Environment, out: &mut Out) -> ExitCode {
    match command {
        Command::Serve(serve) => with_config(&serve.file, env, out, |config, path, out| {
            serve::run(config, &path, serve.replace, env, out)
        }),
        Command::Demo => demo::run(out),
        Command::Check(check) if check.reference => {
            out.line(config::reference().trim_end());
            ExitCode::SUCCESS
        }
        Command::Check(check) => with_config(&check.file, env, out, |config, path, out| {
            check::run(&config, &path, out);
            ExitCode::SUCCESS
        }),
        Command::Explain(explain) => with_config(&explain.file, env, out, |config, _, out| {
            explain::run(&config, &explain.feature, out)
        }),
        Command::Probe(probe) => with_config(&probe.file, env, out, |config, _, out| {
            probe::run(&config, probe.model.as_deref(), out)
        }),
        Command::Docs(Docs { command: DocsCommand::Index { dir, output } }) => {
            docs::index(&dir, &output, out)
        }
        Command::Prompts(prompts) => {
            with_prompts(&prompts.file, env, out, |config, out| match &prompts.action {
                PromptsAction::List => prompts::list(config, out),
                PromptsAction::Show { id, family } => {
                    prompts::show(config, id, family.as_deref(), out)
                }
                PromptsAction::Render { id, input, family } => {
                    prompts::render(config, id, family.as_deref(), input, out)
                }
            })
        }
        Command::Healthcheck(check) => {
            healthcheck::run(check.url.as_deref(), check.file.config.as_deref(), env, out)
        }
    }
}

/// Loads the file and passes it to `run`, or prints its faults.
fn with_config(
    file: &File,
    env: &Environment,
    out: &mut Out,
    run: impl FnOnce(Config, PathBuf, &mut Out) -> ExitCode,
) -> ExitCode {
    match load(file, env) {
        Ok((config, path)) => run(config, path, out),
        Err(faults) => {
            out.faults(&faults);
            BAD_CONFIG.into()
        }
    }
}

/// Like [`with_config`], but without `--config` and without a file in the default places it uses an
/// empty one, that is, the built-in prompts.
fn with_prompts(
    file: &File,
    env: &Environment,
    out: &mut Out,
    run: impl FnOnce(&Config, &mut Out) -> ExitCode,
) -> ExitCode {
    if file.config.is_none() && config::locate(None, env).is_err() {
        return match config::from_str("", "weir.toml", &Environment::default()) {
            Ok(config) => run(&config, out),
            Err(faults) => {
                out.faults(&faults);
                BAD_CONFIG.into()
            }
        };
    }
    with_config(file, env, out, |config, _, out| run(&config, out))
}

fn load(file: &File, env: &Environment) -> Result<(Config, PathBuf), Faults> {
    let path = config::locate(file.config.as_deref(), env)?;
    Ok((config::load(&path, env)?, path))
}

#[cfg(test)]
mod tests;
