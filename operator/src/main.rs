//! The operator's executable.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use operator::args::{Cli, Command, NodeArgs};
use operator::permissions::Permissions;
use operator::pod_rules::PodRules;
use operator::{Verdict, check, controller, logs, node, uninstall};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            // Nothing is left to tell it to.
            let _ = writeln!(io::stderr(), "braid: {error:#}");
            Verdict::Unable.into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Verdict> {
    match cli.command {
        Command::Node(args) => node(&args),
        Command::Controller(args) => Ok(controller::role::run(&args)?),
        Command::Uninstall(args) => {
            uninstall::run(&args, &mut io::stderr().lock())?;
            Ok(Verdict::Fine)
        }
        Command::Check(args) => {
            let permissions = Permissions::read(args.permissions.as_deref())?;
            let rules = PodRules::read(args.settings.as_deref())?;
            let (out, err) = (&mut io::stdout().lock(), &mut io::stderr().lock());
            check::check(&args.files, permissions, rules, out, err).context("print")
        }
    }
}

fn node(args: &NodeArgs) -> anyhow::Result<Verdict> {
    let Some(manifests) = &args.manifests else { return Ok(node::role::run(args)?) };
    let permissions = Permissions::read(args.permissions.as_deref())?;
    if args.once {
        let (out, err) = (&mut io::stdout().lock(), &mut io::stderr().lock());
        return node::once(manifests, &args.directory(), &permissions, out, err).context("print");
    }
    logs::start(args.log_level);
    Ok(node::follow::follow(manifests, &args.directory(), &permissions)?)
}
