//! The command line: parses it, runs one command, says how it ended.

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

/// `EX_CONFIG` of sysexits.h: service managers know it as "do not restart, fix the file".
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
  weir check --config weir.toml            what is wrong with the file, and what it routes where
  weir explain code_completions            why a feature goes where it goes
  weir serve --config /etc/weir/weir.toml  run; SIGHUP or a change of the file reloads, SIGTERM drains
";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    #[command(
        after_help = "Examples:\n  weir serve --config /etc/weir/weir.toml\n  weir serve --config /etc/weir/weir.toml --replace   upgrade: no request is lost\n\nExit codes: 0 drained, 78 the configuration has faults, 1 anything else."
    )]
    Serve(Serve),
    /// Run with a built-in model server: no file, no network
    #[command(after_help = "Example:\n  weir demo\n\nPrints curl lines to paste.")]
    Demo,
    /// Check the file without starting: every fault at once, else what is routed where
    #[command(
        after_help = "Examples:\n  weir check\n  weir check --config weir.toml\n\nExit codes: 0 fine, 78 the configuration has faults."
    )]
    Check(Check),
    /// How a feature is routed, and which line of the file decided each part
    #[command(
        after_help = "Examples:\n  weir explain duo_chat_fix_code\n  weir explain default --config weir.toml"
    )]
    Explain(Explain),
    /// Send one real request to each endpoint of each model
    #[command(
        after_help = "Examples:\n  weir probe\n  weir probe codestral --config weir.toml\n\nExit codes: 0 all answered, 1 at least one did not."
    )]
    Probe(Probe),
    /// Make GitLab's documentation searchable
    Docs(Docs),
    /// What models are told: the prompts in force
    #[command(
        after_help = "Examples:\n  weir prompts list\n  weir prompts show generate_commit_message\n  weir prompts render generate_commit_message --input diff=@change.diff --family mistral\n\nTo change one, put its file into the directory that [prompts] dir names:\n  mkdir -p prompts/chat/explain_code\n  weir prompts show chat/explain_code > prompts/chat/explain_code/base.toml"
    )]
    Prompts(Prompts),
    /// Exit 0 when a running gateway is ready (for a container's HEALTHCHECK)
    #[command(
        after_help = "Examples:\n  weir healthcheck\n  weir healthcheck http://127.0.0.1:8082/ready"
    )]
    Healthcheck(Healthcheck),
}

/// `--config`
#[derive(Debug, Args)]
struct File {
    /// The file; else $WEIR_CONFIG, ./weir.toml, /etc/weir/weir.toml
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    file: File,
    /// Take over from the process that serves on this admin address, if there is one; it drains and
    /// ends
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: File,
    /// Print every key with its default instead (config/reference.toml)
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
    /// Only this model
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
    /// Write an index of a tree of Markdown files, for docs.index in the file
    #[command(
        after_help = "Example:\n  git clone --depth 1 https://gitlab.com/gitlab-org/gitlab.git\n  weir docs index gitlab/doc -o gitlab-docs.index"
    )]
    Index {
        /// The documentation's root: `doc` in GitLab's repository
        dir: PathBuf,
        /// The file to write; one that is there is replaced
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
    /// Every prompt: for which family, by which feature it is routed, what it takes (`?` is
    /// optional)
    #[command(after_help = "Example:\n  weir prompts list")]
    List,
    /// A prompt's file, as it is in force
    #[command(
        after_help = "Examples:\n  weir prompts show review_merge_request\n  weir prompts show code_suggestions/generations --family codegemma"
    )]
    Show {
        /// GitLab's name of the prompt
        id: String,
        /// As a model of this family gets it
        #[arg(long, value_name = "FAMILY")]
        family: Option<String>,
    },
    /// What a model is sent; inputs that are not given are the file's example
    #[command(
        after_help = "Examples:\n  weir prompts render chat/explain_code\n  weir prompts render generate_commit_message --input diff=@change.diff\n  weir prompts render chat/write_tests --input selected_text='def f(): pass' --input libraries='[\"pytest\"]'"
    )]
    Render {
        /// GitLab's name of the prompt
        id: String,
        /// NAME=VALUE, NAME=@FILE, or a list or an object as JSON; repeatable
        #[arg(long, value_name = "NAME=VALUE")]
        input: Vec<String>,
        /// As a model of this family gets it
        #[arg(long, value_name = "FAMILY")]
        family: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Healthcheck {
    /// What to ask; else /ready of admin.listen
    url: Option<String>,
    #[command(flatten)]
    file: File,
}

/// Runs the command that these arguments name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let env = Environment::of_process();
    let mut out = Out::standard(&env);
    match Line::try_parse_from(args) {
        Ok(line) => dispatch(line.command, &env, &mut out),
        Err(error) => {
            let _ = error.print();
            // 2 for a line that cannot be read, 0 for --help
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
        Command::Prompts(ask) => {
            with_prompts(&ask.file, env, out, |config, out| match &ask.action {
                PromptsAction::List => prompts::list(config, out),
                PromptsAction::Show { id, family } => {
                    prompts::show(config, id, family.as_deref(), out)
                }
                PromptsAction::Render { id, input, family } => {
                    prompts::render(config, id, family.as_deref(), input, out)
                }
            })
        }
        Command::Healthcheck(ask) => {
            healthcheck::run(ask.url.as_deref(), ask.file.config.as_deref(), env, out)
        }
    }
}

/// Loads the file and hands it on, or prints what is wrong with it.
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

/// Like `with_config`, but for an empty file where there is none and none was named: the prompts in
/// the program.
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
