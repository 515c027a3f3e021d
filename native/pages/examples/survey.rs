//! Surveys the file that it is given, for a look at how long that takes.
use std::path::PathBuf;
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let path = PathBuf::from(std::env::args().nth(1).unwrap_or_default());
    let start = Instant::now();
    let found = millrace_pages::survey(&path)?;
    println!("{found:?} in {:?}", start.elapsed());
    Ok(())
}
