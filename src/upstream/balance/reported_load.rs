//! What a vLLM server says of its own load, in the text that Prometheus reads at `/metrics`
//! (providers.md d3.2).

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Requests in the batch, of all engines.
    running: f32,
    /// Requests that wait to get in.
    waiting: f32,
    /// How full the fullest engine's key-value cache is, 0 to 1.
    cache: f32,
}

impl Load {
    /// Reads the lines that count; none when a server has none of them. Both names of the cache's
    /// gauge are known: it was `gpu_cache_usage_perc` before 0.9.
    pub(crate) fn read(text: &str) -> Option<Self> {
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

    /// How many requests that is, besides the `ours` that this process has there. One that waits
    /// counts twice, since it is before ours; a cache that is nearly full makes the server take
    /// back what it runs, so that all of it counts up to twice.
    pub(crate) fn besides(self, ours: usize) -> f32 {
        let pressure = ((self.cache - 0.8) / 0.2).clamp(0.0, 1.0);
        (self.running * (1.0 + pressure) + 2.0 * self.waiting - ours as f32).max(0.0)
    }
}

/// `vllm:NAME{labels} value`; comments and other names are none.
fn gauge(line: &str) -> Option<(&str, f32)> {
    let rest = line.strip_prefix("vllm:")?;
    let end = rest.find(['{', ' '])?;
    let (name, rest) = rest.split_at(end);
    // a label's value may hold braces and spaces: the number stands behind the last brace
    let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
    let value: f32 = value.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::Load;

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
        let load = Load::read(TEXT).unwrap();
        assert_eq!((load.running, load.waiting, load.cache), (20.0, 3.0, 0.9));
        let besides = load.besides(6);
        assert!((besides - (20.0 * 1.5 + 6.0 - 6.0)).abs() < 0.01, "{besides}");
        assert_eq!(load.besides(1000) as u32, 0);
    }

    #[test]
    fn the_older_name_and_no_labels_are_read_and_rubbish_is_not() {
        let load =
            Load::read("vllm:gpu_cache_usage_perc 0.25\nvllm:num_requests_running 1\n").unwrap();
        assert_eq!((load.running, load.cache), (1.0, 0.25));
        for text in [
            "",
            "vllm:num_requests_running",
            "vllm:num_requests_running NaN",
            "vllm: 3",
            "# vllm:x 1",
            "ollama 1",
        ] {
            assert_eq!(Load::read(text), None, "{text:?}");
        }
    }
}
