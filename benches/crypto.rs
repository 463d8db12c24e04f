//! What sealing, deriving and puncturing cost: `cargo bench --bench crypto`.
//!
//! The trees stand for 1e4, 1e6 and 1e8 leaves of which one in a hundred is punctured, each alone and at random, and
//! for 1e4 and 1e6 of which half are. Only punctures make a tree large, so the largest has 1e6 of them. Rows and bytes
//! of a puncture are printed once; they are exact, whatever the machine.

use std::hint::black_box;
use std::ops::RangeInclusive;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lacuna::crypto::{Aad, Key, Random, Secret, SystemRandom, open, seal};
use lacuna::keys::tree::{Puncture, Tree};

/// Leaves handed out, and punctures drawn among them; seven draws for ten leaves hit half of them.
const TREES: [(u32, usize); 5] =
    [(10_000, 100), (10_000, 7_000), (1_000_000, 10_000), (1_000_000, 700_000), (100_000_000, 1_000_000)];

fn place() -> Aad {
    Aad::new("lacuna/field/v1").bytes(&[1; 16]).bytes(&[2; 16]).number(7).number(1)
}

/// Sixty-four bytes, about what a padded name or e-mail address takes.
fn values(c: &mut Criterion) {
    let random = SystemRandom::new();
    let (secret, plain) = (Secret::random(&random), [7; 64]);
    let key = Key::new(&secret);
    let sealed = seal(&key, 7, &place(), &plain, &random);
    let mut group = c.benchmark_group("64 bytes");
    group.throughput(Throughput::Bytes(64));
    group.bench_function("seal, key at hand", |b| b.iter(|| seal(&key, 7, &place(), &plain, &random)));
    group.bench_function("seal, new key", |b| b.iter(|| seal(&Key::new(&secret), 7, &place(), &plain, &random)));
    group.bench_function("open, key at hand", |b| b.iter(|| open(&key, &place(), black_box(&sealed))));
    group.bench_function("open, new key", |b| b.iter(|| open(&Key::new(&secret), &place(), black_box(&sealed))));
}

fn number(random: &dyn Random, below: u32) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u32::from_be_bytes(bytes) % below
}

fn single(random: &dyn Random, below: u32, count: usize) -> Vec<RangeInclusive<u32>> {
    let leaf = || number(random, below);
    std::iter::repeat_with(leaf).take(count).map(|leaf| leaf..=leaf).collect()
}

fn report(leaves: u32, what: &str, puncture: &Puncture) {
    let bytes: usize = puncture.written.iter().map(|page| page.blob.len()).sum();
    println!("{leaves} leaves, {what}: {} rows, {bytes} bytes", puncture.written.len());
}

fn trees(c: &mut Criterion) {
    let random = SystemRandom::new();
    let whole = Tree::genesis([7; 16], &random).tree;
    c.bench_function("derive, fresh tree", |b| b.iter(|| whole.derive(black_box(9))));
    c.bench_function("puncture 65536 in a row, fresh tree", |b| {
        b.iter_with_large_drop(|| whole.puncture(&[0x10_0000..=0x10_ffff], &random));
    });
    for (leaves, punctures) in TREES {
        let full = whole.puncture(&single(&random, leaves, punctures), &random);
        report(leaves, "the whole state", &full);
        tree(c, leaves, punctures, &full.tree, &random);
    }
}

fn tree(c: &mut Criterion, leaves: u32, punctures: usize, tree: &Tree, random: &dyn Random) {
    println!("{leaves} leaves: {:?}", tree.stats());
    let mut group = c.benchmark_group(format!("{leaves} leaves, {punctures} punctures"));
    group.bench_function("derive", |b| {
        b.iter_batched(|| number(random, leaves), |leaf| tree.derive(leaf), BatchSize::SmallInput);
    });
    for count in [1, 100] {
        report(leaves, &format!("{count} at once"), &tree.puncture(&single(random, leaves, count), random));
        group.bench_function(format!("puncture {count}"), |b| {
            let ranges = || single(random, leaves, count);
            b.iter_batched(ranges, |ranges| tree.puncture(&ranges, random), BatchSize::SmallInput);
        });
    }
    let row = leaves / 4..=leaves / 4 + 65_535;
    report(leaves, "65536 in a row", &tree.puncture(std::slice::from_ref(&row), random));
    group.bench_function("puncture 65536 in a row", |b| {
        b.iter_with_large_drop(|| tree.puncture(std::slice::from_ref(&row), random));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(500));
    targets = values, trees
}
criterion_main!(benches);
