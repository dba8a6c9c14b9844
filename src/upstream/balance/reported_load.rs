//! The load that a vLLM server reports, in the text that Prometheus reads at `/metrics`
//! (contract::providers §d3.2).

/// The load as of one scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ReportedLoad {
    /// Requests in the batch, of all engines.
    running: f32,
    /// Requests in the queue, of all engines.
    waiting: f32,
    /// The usage of the fullest engine's key-value cache, 0 to 1.
    cache: f32,
}

impl ReportedLoad {
    /// Parses the gauges that count; returns `None` when the text has none of them. Both names of
    /// the cache's gauge are known: it was `gpu_cache_usage_perc` before 0.9.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut load, mut found) = (Self::default(), false);
        for (name, value) in text.lines().filter_map(gauge) {
            match name {
                "num_requests_running" => load.running += value,
                "num_requests_waiting" => load.waiting += value,
                "kv_cache_usage_perc" | "gpu_cache_usage_perc" => {
                    load.cache = load.cache.max(value)
                }
                _ => continue,
            }
            found = true;
        }
        found.then_some(load)
    }

    /// Returns how many requests the server has in addition to the `own` ones of this process. A
    /// queued request counts twice, since it is ahead of ours; a cache that is nearly full makes
    /// the server preempt running requests, so that all of them count up to twice.
    pub(crate) fn external_load(self, own: usize) -> f32 {
        let pressure = ((self.cache - 0.8) / 0.2).clamp(0.0, 1.0);
        (self.running * (1.0 + pressure) + 2.0 * self.waiting - own as f32).max(0.0)
    }
}

/// Parses `vllm:NAME{labels} value`; returns `None` for comments and other names.
fn gauge(line: &str) -> Option<(&str, f32)> {
    let rest = line.strip_prefix("vllm:")?;
    let end = rest.find(['{', ' '])?;
    let (name, rest) = rest.split_at(end);
    // a label's value may contain braces and spaces: the number follows the last brace
    let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
    let value: f32 = value.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::ReportedLoad;

    /// As vLLM writes it, shortened.
    const TEXT: &str = "\
# HELP vllm:num_requests_running Requests in the batch.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"a {b} c\"} 12.0
vllm:num_requests_running{engine=\"1\",model_name=\"a {b} c\"} 8.0
vllm:num_requests_waiting{engine=\"0\",model_name=\"a {b} c\"} 3.0
vllm:num_requests_waiting{engine=\"1\",model_name=\"a {b} c\"} 0.0
vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 3.0
vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"a {b} c\"} 0.4
vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"a {b} c\"} 0.9
vllm:prompt_tokens_total{engine=\"0\",model_name=\"a {b} c\"} 1.5e+06
process_resident_memory_bytes 1.0e+09
";

    #[test]
    fn engines_are_added_and_the_fullest_cache_counts() {
        let load = ReportedLoad::parse(TEXT).unwrap();
        assert_eq!((load.running, load.waiting, load.cache), (20.0, 3.0, 0.9));
        let external_load = load.external_load(6);
        assert!((external_load - (20.0 * 1.5 + 6.0 - 6.0)).abs() < 0.01, "{external_load}");
        assert_eq!(load.external_load(1000) as u32, 0);
    }

    #[test]
    fn the_older_name_and_no_labels_are_read_and_rubbish_is_not() {
        let load =
            ReportedLoad::parse("vllm:gpu_cache_usage_perc 0.25\nvllm:num_requests_running 1\n")
                .unwrap();
        assert_eq!((load.running, load.cache), (1.0, 0.25));
        for text in [
            "",
            "vllm:num_requests_running",
            "vllm:num_requests_running NaN",
            "vllm: 3",
            "# vllm:x 1",
            "ollama 1",
        ] {
            assert_eq!(ReportedLoad::parse(text), None, "{text:?}");
        }
    }
}
