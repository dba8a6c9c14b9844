//! Stopping, and upgrading without losing a request.
//!
//! # SIGTERM
//!
//! 1. `/ready` says 503 at once, on the admin port and as `/monitoring/ready`. Every answer from
//!    now on carries `Connection: close`; on HTTP/2 the connection is told `GOAWAY`, and what it
//!    has asked for is answered.
//! 2. For `resilience.drain_delay` (default none) new connections are still taken: a load
//!    balancer's time to notice.
//! 3. The port closes. Connections that the kernel has made by then are served. One that has
//!    nothing to do is kept for a second: a client that is about to ask again on it is answered,
//!    and told that it was the last time.
//! 4. What runs may end within `resilience.drain`; the admin port answers meanwhile.
//! 5. What is left then has failed: its model server's connection closes, and its client is told so
//!    as of any other failure, with 503 and `Retry-After` if it has no head yet, by an `error`
//!    event in a stream, by a broken connection where there are no words for it. Log and metrics
//!    say `outcome=overload`, `error_code=draining`. Whoever does not take that within two seconds
//!    is cut.
//!
//! The exit code is 0 either way, after `drain_delay`, `drain` and two seconds at most.
//!
//! # Another binary in the place of the one that runs
//!
//! ```text
//! weir serve --config /etc/weir/weir.toml --replace
//! ```
//!
//! The new process is handed the listening sockets of the one that serves on its `admin.listen`;
//! where there is none it just serves. It tells the old one once it accepts; the old one then
//! drains, without a delay, and ends with 0. No connection is refused or reset in between, since
//! the sockets never close. A new process that does not come so far (a fault in the file, a port
//! that is taken) changes nothing.
//!
//! - Both processes must be of one user, or the new one of root's, in one network namespace.
//!   Another `server.listen` moves the port.
//! - The admin port changes hands with the public one: `/ready` never fails, and `/metrics` is the
//!   new process's from then on, counted from 0, which Prometheus takes for a restart. What the old
//!   one still counts is in its access log.
//! - Places in flight, queues and kept connections are each process's own: for the time of the
//!   drain there are twice as many.
//! - User tokens go on only if `auth.user_tokens.signing_key` is in the file; a key made at
//!   start-up ends with its process.
//!
//! systemd knows one process per unit, so two instances of a template take turns
//! (`systemctl start weir@b` while `weir@a` runs; the next time the other way round):
//!
//! ```ini
//! # /etc/systemd/system/weir@.service
//! [Unit]
//! Description=Weir (%i)
//! After=network-online.target
//! Wants=network-online.target
//!
//! [Service]
//! Type=exec
//! User=weir
//! ExecStart=/usr/local/bin/weir serve --replace --config /etc/weir/weir.toml
//! ExecReload=/bin/kill -HUP $MAINPID
//! Restart=on-failure
//! RestartPreventExitStatus=78
//! # more than drain_delay, drain and two seconds together
//! TimeoutStopSec=60
//!
//! [Install]
//! WantedBy=multi-user.target
//! ```
//!
//! # Containers
//!
//! Pods have a network each, so a rolling update replaces them, not this: the new pod gets ready,
//! then the old one gets SIGTERM. Kubernetes takes a pod out of its services at the same time as it
//! sends that signal, not before: `drain_delay = "5s"` lets the rest of the cluster hear of it (the
//! image has no `sleep` for a `preStop` hook and needs none), and `terminationGracePeriodSeconds`
//! must exceed `drain_delay`, `drain` and two seconds together. Two containers that share a network
//! (`--network host`) and a user may use `--replace`.
