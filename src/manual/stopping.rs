//! Stopping, and upgrading without losing a request.
//!
//! # SIGTERM
//!
//! 1. `/ready` returns 503 at once, on the admin port and as `/monitoring/ready`. Every response
//!    from now on carries `Connection: close`; HTTP/2 connections receive `GOAWAY`, and the streams
//!    open on them are served.
//! 2. New connections are still accepted for `resilience.drain_delay` (default none): the time a
//!    load balancer needs to notice.
//! 3. The port closes. Connections that the kernel has completed by then are served. An idle
//!    connection is kept for a second: a request that is already on its way is answered, with
//!    `Connection: close`.
//! 4. Requests in progress may finish within `resilience.drain`; the admin port stays up meanwhile.
//! 5. Requests still running after that fail. Their model server's connection closes, and the
//!    client receives the error as for any other failure: 503 with `Retry-After` if it has no head
//!    yet, an `error` event in a stream, a closed connection where the format has no room for an
//!    error. Log and metrics show `outcome=overload`, `error_code=draining`. A client that does not
//!    read it within two seconds is disconnected.
//!
//! The exit code is 0 either way, after at most `drain_delay`, `drain` and two seconds.
//!
//! # Replacing the binary of a running process
//!
//! ```text
//! weir serve --config /etc/weir/weir.toml --replace
//! ```
//!
//! The new process receives the listening sockets of the one that serves on its `admin.listen`;
//! where there is none it simply starts. It notifies the old process once it accepts connections.
//! The old one then drains, without a delay, and exits with 0.
//!
//! No connection is refused or reset in between, since the sockets never close. A new process that
//! fails before that (an error in the file, a port that is in use) changes nothing.
//!
//! - Both processes must run as the same user, or the new one as root, in one network namespace. A
//!   different `server.listen` moves the port.
//! - The admin port moves together with the public one: `/ready` never fails. From then on
//!   `/metrics` is the new process's, counting from 0, which Prometheus treats as a restart. What
//!   the old process still serves is in its access log.
//! - Concurrency limits, queues and kept connections are per process: during the drain there are
//!   twice as many.
//! - User tokens stay valid only if `auth.user_tokens.signing_key` is in the file; a key generated
//!   at start-up ends with its process.
//!
//! # systemd
//!
//! A systemd unit has one main process, so two instances of a template alternate (`systemctl start
//! weir@b` while `weir@a` runs; the next time the other way round):
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
//! Each pod has its own network, so pods are replaced by a rolling update and not by `--replace`:
//! the new pod becomes ready, then the old one receives SIGTERM.
//!
//! Kubernetes removes a pod from its services at the same time as it sends that signal, not before.
//! `drain_delay = "5s"` gives the rest of the cluster time to notice (the image has no `sleep` for
//! a `preStop` hook and needs none). `terminationGracePeriodSeconds` must exceed `drain_delay`,
//! `drain` and two seconds together.
//!
//! Two containers that share a network (`--network host`) and a user may use `--replace`.
