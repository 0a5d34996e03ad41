//! The figures of the process as the kernel knows them, and which build it is.
//!
//! The names `process_*` are those of the Prometheus client libraries, so that common dashboards show this program too. They
//! are read from `/proc/self` at each scrape. What cannot be read there is absent.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};
use std::{fmt, fs, time::Duration};

/// Of which commit the program was built, where whoever built it said so.
const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// Enters which build this is.
pub(super) fn register_build(registry: &mut Registry) {
    // A gauge and no `info`, which not everything that reads these figures knows.
    let build = Family::<_, Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)]).set(1);
    registry.register("build_info", "Version and commit of the program; always 1", build);
}

/// Enters the figures of the process. The registry must have no prefix.
pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = Stat::read();
        let mut gauge = |name, help, unit: Option<&Unit>, value: Option<u64>| match value {
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
            }
            None => Ok(()),
        };
        let started = stat.as_ref().and_then(Stat::started);
        gauge("process_start_time", "Start of the process since the epoch", Some(&Unit::Seconds), started)?;
        let resident = stat.as_ref().and_then(|stat| stat.pages.checked_mul(page_size() as u64));
        gauge("process_resident_memory", "Memory that the process holds", Some(&Unit::Bytes), resident)?;
        gauge("process_open_fds", "Open descriptors", None, open_descriptors())?;
        gauge("process_max_fds", "Descriptors that may be open", None, getrlimit(Resource::Nofile).current)?;
        if let Some(stat) = stat {
            let cpu = ConstCounter::new(stat.worked().as_secs_f64());
            let (name, help) = ("process_cpu", "Processor time of the process");
            cpu.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), cpu.metric_type())?)?;
        }
        Ok(())
    }
}

/// What `/proc/self/stat` says (proc(5)).
struct Stat {
    /// Ticks in user and kernel mode.
    worked: u64,
    /// Ticks from the start of the machine to that of the process.
    started: u64,
    /// Resident pages.
    pages: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in brackets may hold anything. Behind it, fields are counted from 3.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { worked: field(14)?.checked_add(field(15)?)?, started: field(22)?, pages: field(24)? })
    }

    fn worked(&self) -> Duration {
        Duration::from_millis(self.worked.saturating_mul(1000) / clock_ticks_per_second().max(1))
    }

    /// Seconds since the epoch.
    fn started(&self) -> Option<u64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let machine: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        machine.checked_add(self.started / clock_ticks_per_second().max(1))
    }
}

fn open_descriptors() -> Option<u64> {
    // Reading the folder is one of them.
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_name_of_the_program() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 1400 60 0 0 20 0 9 0 12345 1000000 77 18446744073709551615 1";
        let stat = Stat::parse(&format!("42 (a ) 9 (b) {rest}\n")).unwrap();
        assert_eq!((stat.worked, stat.started, stat.pages), (1460, 12345, 77));
        assert!(Stat::parse("42 (a) S 1").is_none() && Stat::parse("").is_none());
    }

    #[test]
    fn this_process_is_known() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = Duration::from_secs(base::clock::now().as_seconds().cast_unsigned()).as_secs_f64();
        assert!(value("process_start_time_seconds") <= now + 1.0);
    }
}
