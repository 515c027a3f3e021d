//! Writes what the encoders make into the corpora: `fuzz-seeds DIRECTORY`.
use std::io::Result;
use std::path::PathBuf;

fn main() -> Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()));
    for target in millrace_fuzz::TARGETS {
        let directory = root.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (name, bytes) in (target.seeds)() {
            std::fs::write(directory.join(format!("seed-{name}")), bytes)?;
        }
    }
    Ok(())
}
