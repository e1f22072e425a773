//! The operator's executable.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use operator::args::{Cli, Command, NodeArgs};
use operator::{Verdict, check, controller, logs, node};

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
        Command::Check(args) => {
            check::check(&args.files, &mut io::stdout().lock(), &mut io::stderr().lock()).context("print")
        }
    }
}

fn node(args: &NodeArgs) -> anyhow::Result<Verdict> {
    let Some(manifests) = &args.manifests else { return Ok(node::role::run(args)?) };
    if args.once {
        let (out, err) = (&mut io::stdout().lock(), &mut io::stderr().lock());
        return node::once(manifests, &args.directory(), out, err).context("print");
    }
    logs::start(args.log_level);
    Ok(node::follow::follow(manifests, &args.directory())?)
}
