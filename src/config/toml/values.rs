//! One parser for each type of value, how a fault quotes a value, and what a wrong one was probably
//! meant to be.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::toml::diagnostic::{MASK, may_carry_secret, quoted};
use crate::config::toml::key::ValueType;
use crate::config::toml::{suggest, units};

/// Strings of an array, each with its span.
pub(crate) type Strings = Vec<(String, Range<usize>)>;

/// Parses `"127.0.0.1:5052"`; `localhost` is 127.0.0.1.
pub(super) fn address(_: ValueType, value: &DeValue<'_>) -> Option<SocketAddr> {
    let text = value.as_str()?;
    let of_localhost = || format!("127.0.0.1{}", text.strip_prefix("localhost")?).parse().ok();
    text.parse().ok().or_else(of_localhost)
}

/// Parses a duration within its key's bounds.
pub(super) fn duration(value_type: ValueType, value: &DeValue<'_>) -> Option<Duration> {
    let ValueType::Duration(min, max) = value_type else { return None };
    let bounds = units::duration(min)?..=units::duration(max)?;
    units::duration(value.as_str()?).filter(|duration| bounds.contains(duration))
}

/// Parses a size within its key's bounds. Returns bytes.
pub(super) fn size(value_type: ValueType, value: &DeValue<'_>) -> Option<u64> {
    let ValueType::Size(min, max) = value_type else { return None };
    let bounds = units::size(min)?..=units::size(max)?;
    units::size(value.as_str()?).filter(|size| bounds.contains(size))
}

/// Parses a whole number within its key's bounds.
pub(super) fn integer(value_type: ValueType, value: &DeValue<'_>) -> Option<usize> {
    let ValueType::Integer(min, max) = value_type else { return None };
    let number = any_integer(value)?;
    usize::try_from(number).ok().filter(|_| (min..=max).contains(&number))
}

/// Parses a number within its key's bounds.
pub(super) fn number(value_type: ValueType, value: &DeValue<'_>) -> Option<f64> {
    let ValueType::Number(min, max) = value_type else { return None };
    let integer = value.as_integer().map(|number| number.as_str());
    let text = value.as_float().map(|number| number.as_str()).or(integer)?;
    text.parse().ok().filter(|number| (min..=max).contains(number))
}

/// Returns a `true` or `false`.
pub(super) fn boolean(_: ValueType, value: &DeValue<'_>) -> Option<bool> {
    value.as_bool()
}

/// Returns the one of its key's keywords that a value is.
pub(super) fn keyword(value_type: ValueType, value: &DeValue<'_>) -> Option<&'static str> {
    let ValueType::Keyword(keywords) = value_type else { return None };
    keywords.iter().find(|keyword| Some(**keyword) == value.as_str()).copied()
}

/// Returns a string.
pub(super) fn string(_: ValueType, value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Returns the strings of an array.
pub(super) fn strings(_: ValueType, value: &DeValue<'_>) -> Option<Strings> {
    let item =
        |item: &Spanned<DeValue<'_>>| Some((item.get_ref().as_str()?.to_owned(), item.span()));
    value.as_array()?.iter().map(item).collect()
}

/// Parses a whole number without bounds.
pub(crate) fn any_integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Returns a value as a fault quotes it; addresses that may contain a secret are masked.
pub(crate) fn quoted_value(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if may_carry_secret(text) => format!("\"{MASK}\""),
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Returns what a wrong value was probably meant to be, as a hint.
pub(super) fn correction(value_type: ValueType, value: &DeValue<'_>) -> Option<String> {
    let text = match value {
        DeValue::String(text) => text.trim().to_owned(),
        other => quoted_value(other),
    };
    let meant = match value_type {
        ValueType::Address if text.starts_with(':') => format!("0.0.0.0{text}"),
        ValueType::Address if text.parse::<u16>().is_ok() => format!("127.0.0.1:{text}"),
        ValueType::Address if text.parse::<std::net::IpAddr>().is_ok() => {
            return Some("the port is missing".to_owned());
        }
        ValueType::Duration(..) if text.parse::<u32>().is_ok() => format!("{text}s"),
        ValueType::Size(..) if text.parse::<u32>().is_ok() => format!("{text}B"),
        ValueType::Size(..) => {
            let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = text.strip_prefix(number)?.chars().next()?.to_ascii_uppercase();
            Some(format!("{number}{unit}iB"))
                .filter(|meant| units::size(meant).is_some() && *meant != text)?
        }
        ValueType::Keyword(keywords) => {
            suggest::nearest(&text, keywords.iter().copied())?.to_owned()
        }
        ValueType::Integer(..) | ValueType::Number(..) | ValueType::Bool if value.is_str() => {
            let is_meant = text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok();
            return is_meant.then(|| format!("without quotes: {text}"));
        }
        ValueType::Strings(_) if value.is_str() => return Some(format!("in brackets: [{text:?}]")),
        _ => return None,
    };
    Some(format!("did you mean {meant:?}?"))
}
