//! The part that runs in the pod: opens, reads, closes, and prints how long it took.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use keyhole::demo::operator::Operator;

/// Rounds alternate, so that a slow moment of the machine is in both.
const ROUNDS: usize = 15;

/// `warm THREADS OURS THEIRS` or `first ADDRESS TOKEN COUNT`.
pub fn run(words: &[String]) {
    match words[0].as_str() {
        "warm" => warm(words[1].parse().unwrap(), &words[2], &words[3]),
        "first" => first(&words[1], &words[2], words[3].parse().unwrap()),
        other => panic!("{other}"),
    }
}

fn once(path: &str) {
    let mut buffer = [0; 512];
    let read = File::open(path).unwrap().read(&mut buffer).unwrap();
    assert_eq!(read, 200);
}

/// Nanoseconds of one open+read+close, with all threads at it.
fn round(path: &str, threads: usize, count: usize) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..count).for_each(|_| once(path)));
        }
    });
    began.elapsed().as_nanos() as f64 / (count * threads) as f64
}

fn warm(threads: usize, ours: &str, theirs: &str) {
    round(ours, threads, 500);
    round(theirs, threads, 500);
    let (mut our, mut their) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our.push(round(ours, threads, 2_000));
        their.push(round(theirs, threads, 20_000));
    }
    println!("{} {}", median(our), median(their));
}

/// Each secret is read once; every other one directly.
fn first(address: &str, token: &str, count: usize) {
    keyhole::vault::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vault = Operator::new(address, token).unwrap();
    let direct = |at: usize| {
        let began = Instant::now();
        runtime.block_on(vault.read(&format!("bench/data/s{at}"))).unwrap();
        began.elapsed()
    };
    let through = |at: usize| {
        let began = Instant::now();
        once(&format!("f{at}"));
        began.elapsed()
    };
    // Connections are open on both sides before it counts.
    direct(0);
    through(0);
    let nanos = |took: Duration| took.as_nanos() as f64;
    let (mut our, mut their) = (Vec::new(), Vec::new());
    for at in 1..count {
        if at % 2 == 0 {
            our.push(nanos(through(at)));
        } else {
            their.push(nanos(direct(at)));
        }
    }
    println!("{} {}", median(our), median(their));
}

/// The middle of what was measured.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
