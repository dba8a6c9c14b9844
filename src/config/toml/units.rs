//! Durations (`"250ms"`) and sizes (`"16MiB"`) as the file writes them. A number without a unit is
//! refused: half of its readers would take it for another unit.

use std::time::Duration;

/// Parses `250ms`, `60s`, `5m`, `1h`; whole numbers only.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

/// Parses `512B`, `64KB`, `32KiB`, `16MiB`, `1GiB`; whole numbers only. Returns bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// Returns a duration as the file would write it, in the largest unit that needs no fraction.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        // GitLab's screens show "600s": no minutes below an hour
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// Splits a text into its number and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, show_duration, size};

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("1 h"), Some(Duration::from_secs(3600)));
        for bad in [
            "60",
            "s",
            "",
            "-1s",
            "1.5s",
            "1s2",
            "1S",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(size("16MiB"), Some(16 << 20));
        assert_eq!(size("64KB"), Some(64_000));
        assert_eq!(size("512B"), Some(512));
        for bad in ["16", "16M", "16mib", "MiB", "99999999999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "250ms", "60s", "600s", "1h"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }
}
