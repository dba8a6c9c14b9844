//! The gateway as a process: its file, its signals, what it weighs.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rig::client::Client;
use rig::{Failure, now};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::report::Weight;
use super::{Rig, WARM, clients};

const PATIENCE: Duration = Duration::from_secs(90);

/// A running Weir.
pub(crate) struct Gateway {
    weir: PathBuf,
    folder: PathBuf,
    child: Child,
    /// Processes so far.
    count: u32,
    pub(crate) public: SocketAddr,
    admin: SocketAddr,
    replicas: [SocketAddr; 2],
}

/// What a reload needs.
#[derive(Clone)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    process: u32,
    public: SocketAddr,
    admin: SocketAddr,
    replicas: [SocketAddr; 2],
}

impl ConfigFile {
    /// Names the model for the n-th time. Beside it, then over it: it is never half there.
    fn write(&self, n: u32) -> std::io::Result<()> {
        let Self { public, admin, replicas: [first, second], .. } = self;
        let text = format!(
            "[server]\nlisten = \"{public}\"\nworkers = 1\n[admin]\nlisten = \"{admin}\"\n[auth]\nmode = \"off\"\n\
             [telemetry]\nformat = \"json\"\nlevel = \"warn\"\n[limits]\nin_flight = 20000\n[resilience]\ndrain = \"60s\"\n\
             [models.m]\nidentifier = \"custom_openai/up-{n}\"\nendpoints = [\"http://{first}/v1\", \"http://{second}/v1\"]\n\
             [features]\ndefault = \"m\"\n"
        );
        let beside = self.path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(beside, &self.path)
    }
}

impl Gateway {
    pub(crate) async fn start(weir: &str, replicas: &[SocketAddr; 2]) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("weir-soak-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let (public, admin) = (free()?, free()?);
        let weir = PathBuf::from(weir);
        let file = ConfigFile {
            path: folder.join("weir.toml"),
            process: 0,
            public,
            admin,
            replicas: *replicas,
        };
        file.write(0)?;
        let child = serve(&weir, &folder, 0, false)?;
        let gateway = Self { weir, folder, child, count: 1, public, admin, replicas: *replicas };
        let until = Instant::now() + PATIENCE;
        while gateway.get("/ready").await.is_err() {
            if Instant::now() > until {
                return Err("the gateway did not start".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(gateway)
    }

    pub(crate) fn file(&self) -> ConfigFile {
        let (public, admin, replicas) = (self.public, self.admin, self.replicas);
        ConfigFile {
            path: self.folder.join("weir.toml"),
            process: self.child.id(),
            public,
            admin,
            replicas,
        }
    }

    async fn get(&self, path: &str) -> Result<String, Failure> {
        let mut body = Vec::new();
        let request = format!("GET {path} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n");
        let mut client = Client::connect(self.admin).await?;
        match client.exchange(request.as_bytes(), |bytes| body.extend_from_slice(bytes)).await? {
            200 => Ok(String::from_utf8(body)?),
            status => Err(format!("{path}: {status}").into()),
        }
    }

    pub(crate) async fn metrics(&self) -> Result<String, Failure> {
        self.get("/metrics").await
    }

    /// Memory of its own, and descriptors.
    pub(crate) fn weight(&self) -> Result<Weight, Failure> {
        weight(self.child.id())
    }

    /// SIGTERM; it must end well. Returns how many lines all processes wrote to the access log.
    pub(crate) async fn stop(mut self) -> Result<u64, Failure> {
        signal(self.child.id(), Signal::TERM)?;
        end(&mut self.child).await?;
        let mut lines = 0;
        for count in 0..self.count {
            let log = fs::read(self.folder.join(format!("access-{count}.log")))?;
            lines += memchr::memchr_iter(b'\n', &log).count() as u64;
        }
        fs::remove_dir_all(&self.folder)?;
        Ok(lines)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn serve(weir: &Path, folder: &Path, count: u32, replace: bool) -> Result<Child, Failure> {
    let mut command = Command::new(weir);
    command.args(["serve", "--config"]).arg(folder.join("weir.toml"));
    if replace {
        command.arg("--replace");
    }
    let log = File::create(folder.join(format!("access-{count}.log")))?;
    Ok(command.stdin(Stdio::null()).stdout(log).stderr(Stdio::inherit()).spawn()?)
}

fn signal(process: u32, signal: Signal) -> Result<(), Failure> {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    Ok(kill_process(id, signal)?)
}

async fn end(child: &mut Child) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("a gateway ended with {status}").into()),
            None if Instant::now() > until => return Err("a gateway does not end".into()),
            None => sleep(Duration::from_millis(10)).await,
        }
    }
}

fn weight(process: u32) -> Result<Weight, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count();
    Ok(Weight { mib: kib / 1024.0, descriptors })
}

/// The file changes again and again; each time requests must name the model anew.
pub(crate) async fn reload(rig: Rc<Rig>, file: ConfigFile) {
    let every =
        Duration::from_secs_f64(rig.plan.seconds * 0.9 / f64::from(rig.plan.reloads.max(1)));
    for n in 1..=rig.plan.reloads {
        let (at, due) = (now(), Instant::now() + every);
        if let Err(error) =
            file.write(n).map_err(Failure::from).and_then(|()| signal(file.process, Signal::HUP))
        {
            return rig.report.borrow_mut().lose("reloads", &error.to_string());
        }
        let limit = Instant::now() + Duration::from_secs(5);
        while rig.model.newest.get() < n && Instant::now() < limit && !rig.over() {
            sleep(Duration::from_millis(1)).await;
        }
        if rig.over() {
            return;
        }
        if rig.model.newest.get() < n {
            return rig
                .report
                .borrow_mut()
                .lose("reloads", &format!("the {n}th is not in force after 5 s"));
        }
        rig.report.borrow_mut().good("reloads");
        rig.report.borrow_mut().visible.add(now() - at);
        tokio::time::sleep_until(due).await;
    }
}

/// Memory once it has warmed up, and at the end: the mean over a tenth of the time each.
pub(crate) fn watch_memory(
    rig: &Rc<Rig>,
    gateway: &Gateway,
    started: Instant,
) -> JoinHandle<(f64, f64)> {
    let (seconds, process, rig) = (rig.plan.seconds, gateway.child.id(), Rc::clone(rig));
    spawn_local(async move {
        let (mut warm, mut last) = (Vec::new(), Vec::new());
        while !rig.over() {
            let share = started.elapsed().as_secs_f64() / seconds;
            let Ok(weight) = weight(process) else { break };
            if (WARM..WARM + 0.1).contains(&share) {
                warm.push(weight.mib);
            } else if share >= 0.9 {
                last.push(weight.mib);
            }
            sleep(Duration::from_millis(250)).await;
        }
        let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len().max(1) as f64;
        (mean(&warm), mean(&last))
    })
}

/// One process after the other takes the place of the one before, under load. Returns how many did.
pub(crate) async fn upgrade(rig: &Rc<Rig>, gateway: &mut Gateway) -> Result<u32, Failure> {
    rig.go_on(PATIENCE);
    let running = clients::start_few(rig, gateway.public);
    let mut done = 0;
    for _ in 0..rig.plan.upgrades {
        // however many they are
        rig.go_on(PATIENCE);
        sleep(Duration::from_secs(1)).await;
        let new = serve(&gateway.weir, &gateway.folder, gateway.count, true)?;
        let mut old = std::mem::replace(&mut gateway.child, new);
        gateway.count += 1;
        end(&mut old).await?;
        done += 1;
    }
    rig.go_on(Duration::ZERO);
    running.join().await;
    Ok(done)
}
