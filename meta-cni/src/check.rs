//! CHECK: every attachment against its recorded result.

use cni::env::Target;
use cni::skel::Request;
use cni::{CniError, Code};
use store::record::{Phase, Record, RecordKey};

use crate::attach::Site;
use crate::call::{Call, store_error};
use crate::{hold, retired};

/// Fails on the first attachment that is not as ADD made it. Networks of a version without CHECK, or that
/// say `disableCheck`, are passed over.
pub(crate) fn check(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let dir = &call.settings.directory;
    let _lock = hold::container(call, &target.container_id)?;
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    let record = Record::read(dir, &key).map_err(|error| store_error(&error))?;
    if record.is_none() && call.settings.retired {
        return retired::check(call, target, request);
    }
    let Some(record) = record.filter(|record| record.phase == Phase::Attached) else {
        let msg = format!("container {} is not attached with interface {}", key.container_id, key.if_name);
        return Err(CniError::new(Code::UNKNOWN_CONTAINER, msg));
    };
    let site = Site {
        exec: &call.exec,
        container_id: &target.container_id,
        netns: target.netns.clone(),
        path: call.path_with(&record.path),
    };
    for attachment in &record.attachments {
        let Some(result) = &attachment.result else { continue };
        if !site.check(attachment, result)? {
            call.log.debug("a network without CHECK is passed over", &[("network", &attachment.network)]);
        }
    }
    Ok(())
}
