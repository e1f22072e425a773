//! Ports of the loopback address that stay a server's own while it is down.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Below the ports that the kernel gives to connections. One of those could be taken while the server is down, even
/// by a client that tries to reach it: a connection from a port to itself succeeds.
const LOWEST: u16 = 12_000;

/// The ports that this process has given away: their servers may not listen yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `N` ports on which nobody listens. Processes begin their search at different ones.
pub(super) fn free<const N: usize>() -> Result<[u16; N]> {
    let range = below_ephemeral()?;
    let span = u32::from(range.end - range.start);
    let first = std::process::id().wrapping_mul(16) % span;
    let all = (0..span).filter_map(|offset| u16::try_from((first + offset) % span).ok());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let free = all.map(|offset| range.start + offset).filter(|port| is_free(*port) && given.insert(*port));
    let found: Vec<u16> = free.take(N).collect();
    found.try_into().ok().with_context(|| format!("fewer than {N} ports of {range:?} are free on 127.0.0.1"))
}

fn below_ephemeral() -> Result<Range<u16>> {
    let file = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let first = text.split_whitespace().next().and_then(|first| first.parse().ok());
    let first: u16 = first.with_context(|| format!("reading {file}, which says {text:?}"))?;
    Ok(LOWEST..first.max(LOWEST + 1000))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_not_while_somebody_listens() {
        let [one, two] = free::<2>().unwrap();
        let [three] = free::<1>().unwrap();
        assert_eq!(BTreeSet::from([one, two, three]).len(), 3);
        assert!(is_free(three));
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, three)).unwrap();
        assert!(!is_free(three));
    }
}
