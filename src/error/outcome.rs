//! How a request ended, and which of its timeouts expired: facts of failures that metrics, the
//! access log and `/status` show.

/// How a request ended, from the operator's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole response was sent.
    Ok,
    /// Rejected: the request was malformed, unauthorized, too large, for a disabled feature or over
    /// its caller's rate limit.
    Refused,
    /// The model server failed.
    UpstreamError,
    /// One of the four timeouts expired: A1000.
    Timeout,
    /// The client disconnected before the end.
    Cancelled,
    /// Shed because Weir was at its limits or draining.
    Overload,
    /// A fault of Weir's own.
    Internal,
}

impl Outcome {
    /// Every value, in label order.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Refused,
        Self::UpstreamError,
        Self::Timeout,
        Self::Cancelled,
        Self::Overload,
        Self::Internal,
    ];

    /// Returns the `outcome` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Overload => "overload",
            Self::Internal => "internal",
        }
    }
}

/// The four timeouts of one call (`[timeouts]` in the file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// DNS, TCP and TLS to the model server.
    Connect,
    /// From the last byte of the request to the first byte of the response body.
    FirstByte,
    /// Between two chunks of a stream.
    Idle,
    /// The whole request, from its arrival.
    Total,
}

impl Phase {
    /// Every value, in the order in which a request passes them.
    pub const ALL: [Self; 4] = [Self::Connect, Self::FirstByte, Self::Idle, Self::Total];

    /// Returns the `phase` label, which is also the key in `[timeouts]`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}
