//! `soak --weir target/release/weir --seconds 60`: everything at once, for as long as you like, and
//! nothing may be lost. Prints a table; exits 1 when something was.
//!
//! One Weir with one worker, two replicas of a model here in this process, and clients of every
//! kind: streams whose every word is checked, whole answers at a fixed rate, readers that stop
//! reading, clients that leave. Meanwhile the file is changed again and again, a replica is killed
//! and comes back, and at the end other processes take the place of the first. Then everything must
//! be as it was: no connection, descriptor or memory held, no request in flight.
//!
//! | flag | |
//! |---|---|
//! | `--weir` | the binary |
//! | `--seconds` | of load; 60 |
//! | `--streams` | open at the same time; 2000 |
//! | `--rate` | whole answers a second; 1000 |
//! | `--partings` | clients a second that leave; 200 |
//! | `--reloads` | in all; 1000 |
//! | `--upgrades` | at the end; 5 |

mod clients;
mod gateway;
mod model;
mod report;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rig::{Failure, Flags};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use gateway::Gateway;
use model::Model;
use report::{Ends, Report};

/// After this share of the time memory is expected not to grow.
const WARM: f64 = 0.3;
/// Requests before the counting.
const WARM_UP: u64 = 100;
/// The model's servers, the clients' connections and the gateway's kept ones are gone by then.
const QUIET: Duration = Duration::from_secs(8);

/// What to do how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    seconds: f64,
    streams: usize,
    rate: f64,
    partings: f64,
    reloads: u32,
    upgrades: u32,
}

/// What all parts share; one thread runs them all.
pub(crate) struct Rig {
    plan: Plan,
    model: Rc<Model>,
    report: RefCell<Report>,
    until: Cell<Instant>,
}

impl Rig {
    fn over(&self) -> bool {
        Instant::now() >= self.until.get()
    }

    /// Clients go on for so long from now.
    fn go_on(&self, time: Duration) {
        self.until.set(Instant::now() + time);
    }
}

fn main() -> Result<(), Failure> {
    let mut flags = Flags::parse(std::env::args().skip(1))?;
    let weir = flags.take("weir", "target/release/weir".to_owned())?;
    let plan = Plan {
        seconds: flags.take("seconds", 60.0_f64)?.clamp(5.0, 86_400.0),
        streams: flags.take("streams", 2000_usize)?.min(20_000),
        rate: flags.take("rate", 1000.0)?,
        partings: flags.take("partings", 200.0)?,
        reloads: flags.take("reloads", 1000)?,
        upgrades: flags.take("upgrades", 5)?,
    };
    flags.finish()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lost = runtime.block_on(LocalSet::new().run_until(soak(&weir, plan)))?;
    if lost > 0 { Err(format!("{lost} things were lost").into()) } else { Ok(()) }
}

/// Returns how much was lost.
async fn soak(weir: &str, plan: Plan) -> Result<u64, Failure> {
    let model = Model::start().await?;
    let mut gateway = Gateway::start(weir, &model.addresses()).await?;
    let rig =
        Rc::new(Rig { plan, model, report: RefCell::default(), until: Cell::new(Instant::now()) });
    // connections that are made once are made before the counting
    clients::warm_up(&gateway.public).await?;
    sleep(QUIET).await;
    let before = gateway.weight()?;

    rig.go_on(Duration::from_secs_f64(plan.seconds));
    let running = clients::start(&rig, gateway.public);
    let started = Instant::now();
    let warm = gateway::watch_memory(&rig, &gateway, started);
    let reloads = tokio::task::spawn_local(gateway::reload(Rc::clone(&rig), gateway.file()));
    let killing = tokio::task::spawn_local(model::kill_and_restart(Rc::clone(&rig)));
    running.join().await;
    reloads.await?;
    killing.await?;
    let (warm, last) = warm.await?;
    sleep(QUIET).await;
    let after = gateway.weight()?;
    let metrics = gateway.metrics().await?;

    let mut upgraded = 0;
    if plan.upgrades > 0 {
        upgraded = gateway::upgrade(&rig, &mut gateway).await?;
    }
    let lines = gateway.stop().await?;
    let (report, not_followed, followed) =
        (rig.report.take(), rig.model.not_followed(), rig.model.followed.take());
    let ends =
        Ends { before, after, warm, last, metrics, upgraded, not_followed, followed, lines, plan };
    Ok(report.print(ends))
}
