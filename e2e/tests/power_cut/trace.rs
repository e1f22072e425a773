//! What programs do to files, as strace sees it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Every system call that changes files, or brings changes to the disk. Those that [`read`] does not understand are
/// traced as well: a program that uses one on a file that matters must not pass for one that does nothing.
const CALLS: &str = "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,splice,\
    truncate,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,mkdir,\
    mkdirat,chmod,fchmod,fchmodat,fsync,fdatasync,sync,syncfs,sync_file_range";

/// No write of a test is as long as this, in bytes.
const LONGEST: &str = "4194304";

/// One successful system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// A file is opened for writing, and perhaps made or emptied.
    Open { path: PathBuf, create: bool, truncate: bool, append: bool, mode: u32 },
    /// Bytes are written where the file's position is.
    Write { path: PathBuf, data: Vec<u8> },
    /// A name becomes another one.
    Rename { from: PathBuf, to: PathBuf },
    /// A name is taken away.
    Unlink { path: PathBuf },
    /// A directory is made.
    MakeDirectory { path: PathBuf },
    /// An empty directory is removed.
    RemoveDirectory { path: PathBuf },
    /// Who may do what is changed.
    Mode { path: PathBuf, mode: u32 },
    /// What was done to a file or a directory is brought to the disk; its mode only if it is the `whole`.
    Sync { path: PathBuf, whole: bool },
    /// Something that the test knows nothing of.
    Unknown { text: String, paths: Vec<PathBuf> },
}

/// A command that runs `program` and leaves a trace of it, and of all that it starts, in `file`.
pub(crate) fn traced(program: &Path, file: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-xx", "-y", "-s", LONGEST, "-e", "signal=none", "-e"]);
    command.arg(format!("trace={CALLS}")).arg("-o").arg(file).arg(program);
    command
}

/// Reads a trace: calls that succeeded, in the order in which they ended.
pub(crate) fn read(file: &Path) -> Result<Vec<Call>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut begun: Vec<(&str, &str)> = Vec::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let (process, rest) = line.split_once(' ').with_context(|| format!("a line of a trace: {line}"))?;
        let rest = rest.trim_start();
        let whole = if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            begun.push((process, beginning));
            continue;
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once(" resumed>").with_context(|| format!("an end in {line}"))?;
            let at = begun.iter().position(|(of, _)| *of == process);
            let (_, beginning) = begun.remove(at.with_context(|| format!("the beginning of {line}"))?);
            format!("{beginning}{end}")
        } else {
            rest.to_owned()
        };
        calls.extend(parse(&whole).with_context(|| format!("reading {}", shortened(&whole)))?);
    }
    Ok(calls)
}

fn shortened(line: &str) -> &str {
    line.get(..300).unwrap_or(line)
}

/// One call; `None` if it failed, or changes nothing.
fn parse(line: &str) -> Result<Option<Call>> {
    // The end of a process that was killed within a call.
    let Some((call, answer)) = line.rsplit_once(" = ") else { return Ok(None) };
    if answer.starts_with('-') || answer.starts_with('?') {
        return Ok(None);
    }
    let (name, arguments) = call.split_once('(').context("a call")?;
    let arguments = arguments.trim_end();
    let arguments: Vec<&str> =
        arguments.strip_suffix(')').context("the end of a call")?.split(", ").collect();
    let at = |index: usize| arguments.get(index).copied().context("too few arguments");
    Ok(Some(match name {
        "open" | "openat" | "creat" => {
            let (flags, mode) = if name == "openat" { (at(2)?, at(3)) } else { (at(1)?, at(2)) };
            if name == "creat" || !["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| flags.contains(flag)) {
                ensure!(name != "creat", "creat");
                return Ok(None);
            }
            let flag = |flag| flags.split('|').any(|it| it == flag);
            let mode = mode.map_or(Ok(0), |mode| u32::from_str_radix(mode, 8)).context("a mode")?;
            let (create, truncate, append) = (flag("O_CREAT"), flag("O_TRUNC"), flag("O_APPEND"));
            Call::Open { path: described(answer)?, create, truncate, append, mode }
        }
        "write" => written(at(0)?, at(1)?, answer)?,
        "rename" => Call::Rename { from: named(at(0)?)?, to: named(at(1)?)? },
        "renameat" | "renameat2" => Call::Rename { from: named(at(1)?)?, to: named(at(3)?)? },
        "unlink" => Call::Unlink { path: named(at(0)?)? },
        "unlinkat" if at(2)? == "AT_REMOVEDIR" => Call::RemoveDirectory { path: below(at(0)?, at(1)?)? },
        "unlinkat" => Call::Unlink { path: below(at(0)?, at(1)?)? },
        "mkdir" => Call::MakeDirectory { path: named(at(0)?)? },
        "rmdir" => Call::RemoveDirectory { path: named(at(0)?)? },
        "chmod" => Call::Mode { path: named(at(0)?)?, mode: u32::from_str_radix(at(1)?, 8)? },
        "fchmod" => Call::Mode { path: described(at(0)?)?, mode: u32::from_str_radix(at(1)?, 8)? },
        "fsync" | "fdatasync" => Call::Sync { path: described(at(0)?)?, whole: name == "fsync" },
        _ => {
            // A descriptor of a socket has a name that is no path.
            let open = |it: &&str| described(it).ok().filter(|path| path.is_absolute());
            let paths = arguments.iter().filter_map(|it| open(it).or_else(|| named(it).ok())).collect();
            Call::Unknown { text: shortened(line).to_owned(), paths }
        }
    }))
}

fn written(descriptor: &str, data: &str, answer: &str) -> Result<Call> {
    let Ok(path) = described(descriptor) else { bail!("a write to what has no name: {descriptor}") };
    let mut data = bytes(data)?;
    data.truncate(answer.trim().parse().context("how much was written")?);
    Ok(Call::Write { path, data })
}

/// The path behind a descriptor: `3<\x2f\x74>`. One whose file has been removed leads nowhere.
fn described(argument: &str) -> Result<PathBuf> {
    let (_, path) = argument.split_once('<').context("no descriptor")?;
    let (path, rest) = path.split_once('>').context("no descriptor")?;
    let path = PathBuf::from(OsString::from_vec(hexadecimal(path)?));
    Ok(if rest.is_empty() { path } else { PathBuf::from("/removed") })
}

/// The path in an argument: `"\x2f\x74"`.
fn named(argument: &str) -> Result<PathBuf> {
    Ok(OsString::from_vec(bytes(argument)?).into())
}

/// A path that may be relative to a directory that is open.
fn below(directory: &str, name: &str) -> Result<PathBuf> {
    Ok(described(directory)?.join(named(name)?))
}

fn bytes(argument: &str) -> Result<Vec<u8>> {
    let inner = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    hexadecimal(inner.with_context(|| format!("a whole text, not {}", shortened(argument)))?)
}

fn hexadecimal(text: &str) -> Result<Vec<u8>> {
    let digits = text.split("\\x").skip(1);
    let decoded = digits.map(|two| u8::from_str_radix(two, 16)).collect::<Result<Vec<u8>, _>>();
    decoded.context("a text in hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(calls: &[Call]) -> Vec<String> {
        calls.iter().map(|call| format!("{call:?}")).collect()
    }

    #[test]
    fn calls_that_were_interrupted_by_others_count_when_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        let lines = [
            r"7 fsync(3<\x2f\x61> <unfinished ...>",
            r#"8 unlink("\x2f\x62") = 0"#,
            r#"8 unlink("\x2f\x63") = -1 ENOENT (No such file or directory)"#,
            r"7 <... fsync resumed>) = 0",
            r#"7 write(3<\x2f\x61>, "\x68\x69\x0a", 3) = 2"#,
            r#"7 openat(AT_FDCWD<\x2f>, "\x61", O_RDONLY) = 3<\x2f\x61>"#,
            r#"7 symlink("\x61", "\x2f\x62") = 0"#,
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        let expected = [
            r#"Unlink { path: "/b" }"#,
            r#"Sync { path: "/a", whole: true }"#,
            r#"Write { path: "/a", data: [104, 105] }"#,
        ];
        let calls = read(&file).unwrap();
        assert_eq!(text(&calls[..3]), expected);
        assert!(matches!(&calls[3..], [Call::Unknown { paths, .. }] if paths.contains(&"/b".into())));
    }

    #[test]
    fn a_text_that_strace_cut_off_is_an_error() {
        assert!(parse(r#"write(3<\x2f\x61>, "\x68"..., 3) = 3"#).is_err());
    }
}
