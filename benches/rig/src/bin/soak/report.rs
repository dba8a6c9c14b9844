//! What came of it, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use rig::Samples;

use super::Plan;

/// How much memory may grow between warm and the end: a share, and some MiB for what an allocator
/// keeps.
const GROWTH: (f64, f64) = (1.10, 4.0);

/// A process's own memory, and its descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    pub(crate) mib: f64,
    pub(crate) descriptors: usize,
}

/// What is known at the end.
pub(crate) struct Ends {
    pub(crate) before: Weight,
    pub(crate) after: Weight,
    pub(crate) warm: f64,
    pub(crate) last: f64,
    pub(crate) metrics: String,
    pub(crate) upgraded: u32,
    pub(crate) not_followed: usize,
    pub(crate) followed: Samples,
    /// Of the access log.
    pub(crate) lines: u64,
    pub(crate) plan: Plan,
}

#[derive(Default)]
struct Count {
    good: u64,
    reported: u64,
    lost: u64,
}

/// Counts by kind.
#[derive(Default)]
pub(crate) struct Report {
    counts: BTreeMap<&'static str, Count>,
    examples: Vec<String>,
    /// From writing a file to the first request by it, in nanoseconds.
    pub(crate) visible: Samples,
    pub(crate) kills: u32,
}

impl Report {
    pub(crate) fn good(&mut self, kind: &'static str) {
        self.counts.entry(kind).or_default().good += 1;
    }

    /// An honest failure, while a replica was dead.
    pub(crate) fn reported(&mut self, kind: &'static str) {
        self.counts.entry(kind).or_default().reported += 1;
    }

    pub(crate) fn lose(&mut self, kind: &'static str, how: &str) {
        self.counts.entry(kind).or_default().lost += 1;
        if self.examples.len() < 10 {
            self.examples.push(format!("{kind}: {how}"));
        }
    }

    /// Prints; returns how much was lost.
    pub(crate) fn print(mut self, mut ends: Ends) -> u64 {
        let Ends { before, after, warm, last, .. } = ends;
        if ends.not_followed > 0 {
            self.lose("partings", &format!("{} still answered by the model", ends.not_followed));
        }
        if after.descriptors > before.descriptors {
            self.lose(
                "descriptors",
                &format!("{} before, {} after", before.descriptors, after.descriptors),
            );
        }
        if last > warm * GROWTH.0 + GROWTH.1 {
            self.lose("memory", &format!("{warm:.1} MiB warm, {last:.1} MiB at the end"));
        }
        let received = |count: &Count| count.good + count.reported;
        let requests = self.counts.iter().filter(|(kind, _)| **kind != "reloads");
        let (least, most) = requests
            .fold((0, 0), |(least, most), (_, count)| (least + count.good, most + received(count)));
        // the warm-up's are in the log too; of those that failed at a dead replica some had not
        // been sent
        if ends.lines < least + super::WARM_UP || ends.lines > most + super::WARM_UP {
            self.lose("log lines", &format!("{} for {least} to {most} requests", ends.lines));
        }
        for gauge in ["weir_inflight", "weir_upstream_inflight"] {
            let open = sum(&ends.metrics, gauge);
            if open != 0.0 {
                self.lose("gauges", &format!("{gauge} {open}"));
            }
        }
        println!("{:.0} s, {} streams at once, one worker", ends.plan.seconds, ends.plan.streams);
        println!("{:<16} {:>10} {:>22} {:>8}", "", "good", "told of a dead replica", "lost");
        for (kind, count) in &self.counts {
            println!("{kind:<16} {:>10} {:>22} {:>8}", count.good, count.reported, count.lost);
        }
        let times = |samples: &mut Samples| {
            let at = |samples: &mut Samples, share| Duration::from_nanos(samples.at(share));
            format!(
                "p50 {:.1?}, p99 {:.1?}, max {:.1?}",
                at(samples, 500),
                at(samples, 990),
                at(samples, 1000)
            )
        };
        println!("client left → model server's connection closed: {}", times(&mut ends.followed));
        println!("file written → first request by it:             {}", times(&mut self.visible));
        println!(
            "replica killed and restarted {} times, process replaced {} times",
            self.kills, ends.upgraded
        );
        println!(
            "memory: {:.1} MiB idle before, {warm:.1} warm, {last:.1} at the end, {:.1} idle after",
            before.mib, after.mib
        );
        println!(
            "descriptors: {} idle before, {} idle after",
            before.descriptors, after.descriptors
        );
        for example in &self.examples {
            println!("LOST {example}");
        }
        self.counts.values().map(|count| count.lost).sum()
    }
}

/// The sum of a family.
fn sum(metrics: &str, name: &str) -> f64 {
    let lines = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
