//! The `lethe` program.

fn main() {}
