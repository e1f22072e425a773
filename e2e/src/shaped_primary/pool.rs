//! Addresses that an agent or an IPAM plugin has given out: a file for each, which names its owner.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use cni::CniError;
use ipnet::IpNet;

use super::failed;

/// A directory of addresses.
pub(super) struct Pool(PathBuf);

impl Pool {
    pub(super) fn at(dir: PathBuf) -> Self {
        Self(dir)
    }

    fn error(&self, what: &str, error: &std::io::Error) -> CniError {
        failed(format!("{what} {}: {error}", self.0.display()))
    }

    /// Takes one address for `owner`; `false` if it is taken.
    pub(super) fn take(&self, address: IpAddr, owner: &str) -> Result<bool, CniError> {
        fs::create_dir_all(&self.0).map_err(|e| self.error("make", &e))?;
        match fs::File::create_new(self.0.join(address.to_string())) {
            Ok(mut file) => {
                file.write_all(owner.as_bytes()).map(|()| true).map_err(|e| self.error("write", &e))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.error("write", &error)),
        }
    }

    /// The first address of `subnet` behind that of the network itself: the node's.
    pub(super) fn router(subnet: IpNet) -> Result<IpAddr, CniError> {
        let first = subnet.hosts().find(|address| *address != subnet.network());
        first.ok_or_else(|| failed(format!("{subnet} is too small")))
    }

    /// Takes the first free address of `subnet`.
    pub(super) fn allocate(&self, subnet: IpNet, owner: &str) -> Result<IpAddr, CniError> {
        let router = Self::router(subnet)?;
        for address in subnet.hosts().skip_while(|address| *address <= router).take(1000) {
            if self.take(address, owner)? {
                return Ok(address);
            }
        }
        Err(failed(format!("no address of {subnet} is free")))
    }

    /// The addresses whose owner is accepted by `is_owner`, in order.
    pub(super) fn held(&self, is_owner: &dyn Fn(&str) -> bool) -> Result<Vec<IpAddr>, CniError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.error("list", &error)),
        };
        let mut held = Vec::new();
        for entry in entries.flatten() {
            let address = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(address), Ok(owner)) = (address, fs::read_to_string(entry.path()))
                && is_owner(&owner)
            {
                held.push(address);
            }
        }
        held.sort();
        Ok(held)
    }

    /// Gives back what [`Pool::held`] would return.
    pub(super) fn release(&self, is_owner: &dyn Fn(&str) -> bool) -> Result<Vec<IpAddr>, CniError> {
        let held = self.held(is_owner)?;
        for address in &held {
            match fs::remove_file(self.0.join(address.to_string())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(self.error("remove from", &error)),
            }
        }
        Ok(held)
    }
}
