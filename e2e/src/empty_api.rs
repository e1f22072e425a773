//! An API server that has nothing: lists are empty, watches say nothing, what is written is taken, and no object is
//! found. The node role is content with it, and starts in milliseconds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Starts it; it ends with the process.
pub fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is none of its business.
            thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(address)
}

/// Writes how to reach it.
pub fn kubeconfig(address: SocketAddr, dir: &Path) -> Result<PathBuf> {
    let file = dir.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(&file, config.to_string()).context("writing a kubeconfig")?;
    Ok(file)
}

fn answer(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':').filter(|_| !head.is_empty()) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        } else if line.trim().is_empty() {
            break;
        } else {
            head = line;
        }
    }
    reader.take(length).read_to_end(&mut Vec::new())?;
    let (verb, path) = head.split_once(' ').context("a request")?;
    if path.contains("watch=true") {
        write!(
            &stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        // Until the client goes away.
        (&stream).read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    let (code, body) = said(verb, path);
    write!(
        &stream,
        "HTTP/1.1 {code} As told\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

fn said(verb: &str, path: &str) -> (u16, String) {
    let (code, object): (u16, Value) = match verb {
        "GET" if path.contains("/daemonsets/") => (
            404,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                "message": "there is none", "code": 404}),
        ),
        "GET" => (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}),
        ),
        _ => (
            200,
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "any"}}),
        ),
    };
    (code, object.to_string())
}
