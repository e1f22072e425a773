//! Many results into one: pure.
//!
//! The runtime knows one result per pod. It gets the primary's interfaces, addresses, routes and name servers
//! first and as they are, then the other attachments' interfaces and addresses. Runtimes key interfaces by
//! their name alone, whatever their sandbox, and give every address without an index to the pod's `eth0`
//! (go-cni, result.go), so:
//!
//! - every address carries the index of its interface, within the merged list;
//! - no two interfaces have one name; an interface in the pod wins over one on the host, then the first wins;
//! - an address of an interface that was left out is left out too.
//!
//! Results are settled first ([`AddResult::settled`]): plugins are not to be taken at their word.

use std::collections::HashMap;
use std::path::Path;

use cni::AddResult;
use cni::result::IpConfig;
use store::record::AttachmentRecord;

/// Merges the results of attachments, primary first. Attachments without a result add nothing.
pub(crate) fn merge(attachments: &[AttachmentRecord], netns: Option<&Path>) -> AddResult {
    let results: Vec<AddResult> =
        attachments.iter().filter_map(|attachment| settled(attachment, netns)).collect();
    let mut merged = results.first().cloned().unwrap_or_default();
    let places = places(&results);
    merged.interfaces = Vec::new();
    merged.ips = Vec::new();
    let mut index_of: HashMap<(usize, usize), usize> = HashMap::new();
    for (result, interface) in places {
        let Some(found) = results.get(result).and_then(|r| r.interfaces.get(interface)) else { continue };
        index_of.insert((result, interface), merged.interfaces.len());
        merged.interfaces.push(found.clone());
    }
    for (number, result) in results.iter().enumerate() {
        let moved = result.ips.iter().filter_map(|ip| {
            let old = ip.interface?;
            let interface = Some(*index_of.get(&(number, old))?);
            Some(IpConfig { interface, ..ip.clone() })
        });
        merged.ips.extend(moved);
    }
    merged
}

/// Which interfaces are kept, in order: (result, interface within it).
fn places(results: &[AddResult]) -> Vec<(usize, usize)> {
    let all = || {
        results.iter().enumerate().flat_map(|(number, result)| {
            result.interfaces.iter().enumerate().map(move |(index, interface)| ((number, index), interface))
        })
    };
    // Who has a name: the first interface in the pod, else the first on the host.
    let mut holder: HashMap<&str, ((usize, usize), bool)> = HashMap::new();
    for (place, interface) in all() {
        let in_pod = interface.is_in_pod();
        holder
            .entry(interface.name.as_str())
            .and_modify(|held| {
                if in_pod && !held.1 {
                    *held = (place, true);
                }
            })
            .or_insert((place, in_pod));
    }
    all()
        .filter(|(place, interface)| holder.get(interface.name.as_str()).is_some_and(|held| held.0 == *place))
        .map(|(place, _)| place)
        .collect()
}

fn settled(attachment: &AttachmentRecord, netns: Option<&Path>) -> Option<AddResult> {
    Some(attachment.result.as_ref()?.settled(&attachment.if_name, netns))
}

#[cfg(test)]
mod tests;
