//! `make chaos`: drivers and keepers die again and again, and readers in the pods must not notice.
//!
//! Prints a table and writes `target/chaos.json`. A *pause* is what a reader sees of it: for each operation that was
//! under way in a kill -9 of the driver, or began before the next one had all volumes again, and that had to wait
//! (1 ms or more; what the kernel answers by itself does not), the time from the kill to its answer. First reads
//! wait for Vault besides, and are left out of that. Fails for errors, wrong bytes and hangs, never for a time.
//!
//! `--kills N --volumes N` for one plan in the place of the short form's three; `--seed N` to repeat one;
//! `--mode clone` for kernels that cannot resend; `--program FILE` and `--json FILE` where this is not built.
#![allow(unreachable_pub, missing_docs, reason = "a program")]
#![allow(unsafe_code, reason = "it maps files")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench measures, prints, and says where it fails"
)]

mod contents;
mod crowd;
mod node;
mod plan;
mod reader;
mod said;
mod storm;
mod ways;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::crowd::Cause;
use crate::plan::{Outcome, Plan};

/// Kills and volumes of the short form.
const SHORT: [(u64, u32); 3] = [(40, 1), (120, 50), (50, 250)];
/// Milliseconds of a pause at 250 volumes, of 99 in 100.
const PAUSE: f64 = 50.0;
/// Milliseconds until a driver has 250 volumes again, after its start.
const RESTART: f64 = 200.0;
/// MiB of driver and keeper with 250 volumes.
const RESIDENT: f64 = 40.0;
/// Lines of what went wrong.
const SHOWN: usize = 20;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "reader") {
        return reader::run(&words[1..]);
    }
    keyhole::vault::tls::install_crypto();
    let given = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        Some(words.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).clone())
    };
    let number = |name: &str| given(name).map(|word| word.parse::<u64>().unwrap());
    let seed = number("--seed").unwrap_or_else(said::now);
    let plan = |(kills, volumes): (u64, u32)| Plan {
        kills,
        volumes,
        // Each costs ten seconds.
        long_stops: number("--long-stops").unwrap_or(if kills < 100 {
            0
        } else {
            1 + kills / 1000
        }),
        mode: given("--mode").unwrap_or_else(|| "auto".to_owned()),
        seed,
        program: given("--program")
            .map_or(PathBuf::from(env!("CARGO_BIN_EXE_keyhole")), PathBuf::from),
    };
    let plans = match (number("--kills"), number("--volumes")) {
        (None, None) => SHORT.map(plan).to_vec(),
        (kills, volumes) => vec![plan((kills.unwrap_or(100), volumes.unwrap_or(50) as u32))],
    };
    println!("seed {seed} (--seed {seed} repeats it)");
    println!("pause: from a kill -9 of the driver to the answer, of operations that waited in it");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut told, mut failed) = (Vec::new(), false);
    for plan in plans {
        let mut outcome = runtime.block_on(plan.run());
        told.push(tell(&plan, &mut outcome));
        let tally = &outcome.tally;
        let errors = outcome.mode != "clone" && !tally.errors.is_empty();
        if errors || !tally.wrong.is_empty() || !tally.hangs.is_empty() {
            failed = true;
            println!("FAILED. The logs:\n{}", outcome.logs);
        }
        for what in [&tally.errors, &tally.wrong, &tally.hung] {
            what.iter().take(SHOWN).for_each(|line| println!("  {line}"));
        }
    }
    let file = given("--json").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("chaos.json"),
        PathBuf::from,
    );
    std::fs::write(&file, format!("{:#}\n", json!({ "plans": told }))).unwrap();
    println!("written to {}", file.display());
    std::process::exit(i32::from(failed));
}

/// Milliseconds that so many in 100 do not exceed.
fn percentile(micros: &mut [u32], percent: usize) -> f64 {
    micros.sort_unstable();
    let at = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
    micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

/// Prints what came of a plan; the same for the file.
fn tell(plan: &Plan, outcome: &mut Outcome) -> Value {
    let Outcome { tally, deeds, .. } = outcome;
    let requests = tally.requests();
    let (volumes, mode) = (plan.volumes, &outcome.mode);
    println!("\n{volumes} volumes, mode {mode}, {:.0} s", outcome.seconds);
    let line = |name: &str, value: String| println!("  {name:<34} {value:>12}");
    let figure = |name: &str, value: f64, target: Option<f64>| {
        let target = target.filter(|_| volumes >= 250);
        let shown = target.map_or(String::new(), |most| format!("  <= {most}"));
        let missed = if target.is_some_and(|most| value > most) { "  MISSED" } else { "" };
        println!("  {name:<34} {value:>12.1}{shown}{missed}");
    };
    line("kills", deeds.kills.to_string());
    let others = [
        ("upgrades", deeds.upgrades),
        ("keeper restarts", deeds.keeper_restarts),
        ("SIGTERM and start", deeds.terms),
        ("SIGSTOP and SIGCONT", deeds.stops),
        ("SIGSTOP until the keeper kills", deeds.long_stops),
        ("republishes", deeds.republishes),
        ("fresh volumes", outcome.fresh),
        ("versions of the rotating secret", outcome.versions),
        ("rotations that no watcher saw", deeds.errands),
        ("healed after both were killed", outcome.healed as u64),
        ("requests", requests),
        ("errors", tally.errors.len() as u64),
        ("aborted (clone mode)", tally.aborted),
        ("wrong bytes", tally.wrong.len() as u64),
        ("hangs", tally.hangs.len() as u64),
        ("Vault requests by restarts", outcome.vault_requests),
    ];
    others.iter().for_each(|(name, value)| line(name, value.to_string()));
    let mut none = Vec::new();
    let kills = tally.pauses.get_mut(&Cause::Kill).unwrap_or(&mut none);
    let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(kills, percent));
    line("operations that waited in a kill", kills.len().to_string());
    figure("pause p50, ms", p50, None);
    figure("pause p99, ms", p99, Some(PAUSE));
    figure("pause longest, ms", most, None);
    figure("of which the operation's own, p99", percentile(&mut tally.waits, 99), None);
    for (cause, name) in [
        (Cause::Upgrade, "an upgrade"),
        (Cause::Term, "a SIGTERM"),
        (Cause::Keeper, "a keeper restart"),
        (Cause::Stop, "a SIGSTOP"),
    ] {
        let Some(pauses) = tally.pauses.get_mut(&cause) else { continue };
        figure(&format!("own wait in {name}, p99"), percentile(pauses, 99), None);
    }
    figure("start to all volumes p50, ms", percentile(&mut deeds.restarts, 50), Some(RESTART));
    figure("start to all volumes p99, ms", percentile(&mut deeds.restarts, 99), None);
    let [driver, keeper] = outcome.rss_kib;
    let mib = (driver + keeper) as f64 / 1024.0;
    figure(&format!("driver {driver} + keeper {keeper} KiB, MiB"), mib, Some(RESIDENT));
    let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
    json!({
        "kills": deeds.kills,
        "requests": requests,
        "errors": tally.errors.len(),
        "aborted": tally.aborted,
        "wrong_bytes": tally.wrong.len(),
        "hangs": tally.hangs.len(),
        "pause_p50_ms": rounded(p50),
        "pause_p99_ms": rounded(p99),
        "pause_max_ms": rounded(most),
        "vault_requests": outcome.vault_requests,
        "volumes": volumes,
        "mode": mode,
        "seed": plan.seed,
        "upgrades": deeds.upgrades,
        "keeper_restarts": deeds.keeper_restarts,
        "seconds": rounded(outcome.seconds),
        "rss_kib": driver + keeper,
    })
}
