//! `make bench`: the figures that README promises, as ratios within one run where that is possible.
//!
//! Prints a table and writes `target/bench.json`. Words on the command line choose figures by a part of their
//! name. Nothing fails here: a figure that misses its target is marked.
#![allow(unreachable_pub, missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench measures, prints, and says where it fails"
)]

mod node;
mod outlive;
mod reader;

use std::path::Path;

use serde_json::{Map, Value};

/// A figure, and what it must not exceed.
const TARGETS: [(&str, f64); 10] = [
    ("warm_read_ratio_1t", 20.0),
    ("first_read_ratio", 1.3),
    ("publish_p50_ms", 5.0),
    ("publish_500_s", 2.0),
    ("rss_per_volume_kib", 64.0),
    ("idle_cpu_pct", 0.2),
    ("restart_250_ms", 200.0),
    ("restart_250_vault_requests", 0.0),
    ("rss_keeper_500_mib", 3.0),
    ("rss_250_both_mib", 40.0),
];
/// One more, below the others because it has a unit of its own.
const START: (&str, f64) = ("start_ms", 100.0);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "reader") {
        return reader::run(&words[1..]);
    }
    keyhole::vault::tls::install_crypto();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let figures = runtime.unwrap().block_on(node::measure(&words));
    let mut object = Map::new();
    println!("{:<28} {:>12} {:>10}", "figure", "measured", "target");
    for (name, value) in figures {
        let target =
            TARGETS.iter().chain([&START]).find(|(had, _)| *had == name).map(|(_, most)| *most);
        let shown = target.map_or("-".to_owned(), |most| format!("<= {most}"));
        let missed = if target.is_some_and(|most| value > most) { "  MISSED" } else { "" };
        println!("{name:<28} {value:>12.3} {shown:>10}{missed}");
        object.insert(name, Value::from((value * 1000.0).round() / 1000.0));
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench.json");
    std::fs::write(&file, format!("{:#}\n", Value::Object(object))).unwrap();
    println!("written to {}", file.display());
}
