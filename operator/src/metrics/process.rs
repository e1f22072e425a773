//! The process itself, under the names that every Prometheus client uses. What `/proc` does not tell is left
//! out: no metric is worth failing the others.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};

/// The unit of times under `/proc`, in every architecture that Rust has a Linux for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The metrics of this process.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Process {
    /// Of a process that began at `started`.
    pub(super) fn started(started: SystemTime) -> Self {
        Self { started }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut out = Out(&mut encoder);
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (status, stat) = (read("/proc/self/status"), read("/proc/self/stat"));
        let help = "Memory of the process that is in the machine's memory.";
        out.gauge("process_resident_memory", help, Some(&Unit::Bytes), bytes(&status, "VmRSS"))?;
        let help = "The most that it was.";
        out.gauge("process_resident_memory_max", help, Some(&Unit::Bytes), bytes(&status, "VmHWM"))?;
        let help = "Address space of the process.";
        out.gauge("process_virtual_memory", help, Some(&Unit::Bytes), bytes(&status, "VmSize"))?;
        out.gauge("process_threads", "Threads.", None, field(&status, "Threads"))?;
        out.gauge("process_open_fds", "Open file descriptors.", None, open_files())?;
        let most = getrlimit(Resource::Nofile).current;
        out.gauge("process_max_fds", "How many file descriptors may be open.", None, most)?;
        let help = "Processor time spent.";
        out.counter("process_cpu", help, &Unit::Seconds, cpu_seconds(&stat))?;
        let started = self.started.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
        out.gauge("process_start_time", "When the process began.", Some(&Unit::Seconds), started)
    }
}

/// Writes what is known.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn gauge<N>(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: Option<N>) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        let Some(value) = value else { return Ok(()) };
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, unit, gauge.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, unit: &Unit, value: Option<f64>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, Some(unit), counter.metric_type())?)
    }
}

/// A number of `/proc/self/status`, whose lines are like `Threads: 2` and `VmRSS: 1024 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.checked_mul(1024)
}

/// Of `/proc/self/stat`: its fields 14 and 15. The second is the program's name, which may hold blanks and `)`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11).map_while(|text| text.parse::<u32>().ok());
    let (user, system) = (times.next()?, times.next()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

/// One of them is the listing's own.
fn open_files() -> Option<u64> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(files).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_the_program_is_called() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 900 1000 200 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        let status = "Name:\tVmRSS\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        assert_eq!(bytes(status, "VmRSS"), Some(1_048_576));
        assert_eq!(field(status, "Threads"), Some(3));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for text in ["", ")", "7 (braid) S", "VmRSS", "VmRSS:", "VmRSS:\tmuch kB"] {
            assert_eq!((cpu_seconds(text), bytes(text, "VmRSS")), (None, None), "{text:?}");
        }
    }
}
