//! `Secret<T>`: a value that prints as dots, is wiped when dropped, and is read only by
//! `.expose()`, so that all code that reads one is found by a search for that word.

use std::fmt;

use zeroize::Zeroize;

/// A value that never reaches a log, a metric, an error or a page.
///
/// `Debug` and `Display` print `•••`. The memory is overwritten on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value that was just read from a file, the environment or a request.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value itself. Callers pass it to the wire or to a hash, never to a formatter.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn prints_as_dots_in_every_format() {
        let key = Secret::new(String::from("sk-canary"));
        assert_eq!(format!("{key} {key:?} {:?}", Some(&key)), "••• ••• Some(•••)");
        assert_eq!(key.expose(), "sk-canary");
    }
}
