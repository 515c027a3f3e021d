//! Prints `engine/layout.ts`: the numbers of this crate as TypeScript.
use millrace_layout as layout;
use std::fmt::Write as _;
use std::io::Write as _;

fn constants(out: &mut String, indent: &str, table: &[layout::Constant], field: bool) {
    for constant in table {
        let text: Vec<&str> = constant.text.lines().map(str::trim).collect();
        let text = text.join(" ").replace("\\[", "[").replace("\\]", "]");
        let _ = writeln!(out, "{indent}/** {text} */");
        let value = literal(constant.value);
        let _ = if field {
            writeln!(out, "{indent}{}: {value},", constant.name)
        } else {
            writeln!(out, "{indent}export const {} = {value};", constant.name)
        };
    }
}

fn literal(value: u64) -> String {
    match value {
        none if none == u64::from(layout::NONE) => "0xffff_ffff".into(),
        large if large >= 65536 => grouped(large),
        small => small.to_string(),
    }
}

/// What `Control::new` says about a few sizes: the offsets that TypeScript works out by itself are tested with these.
fn examples(out: &mut String) {
    out.push_str("\n/** Sizes of a mount and the offsets that native/layout works out for them; for tests. */\n");
    out.push_str("export const controlExamples = [\n");
    // The smallest mount, one frame either side of a page of counts, the default, more than a shard, the largest.
    for (frames, data_workers) in [(64, 1), (1024, 2), (1025, 2), (256, 4), (2049, 7), (65_536, 31)]
    {
        let control = layout::Control::new(frames, data_workers);
        out.push_str("  {\n");
        for (name, value) in [
            ("frames", frames),
            ("dataWorkers", data_workers),
            ("requests", control.requests),
            ("bodies", control.bodies),
            ("inodes", control.inodes),
            ("rings", control.rings),
            ("bytes", control.bytes),
        ] {
            let _ = writeln!(out, "    {name}: {},", literal(value as u64));
        }
        out.push_str("  },\n");
    }
    out.push_str("] as const;\n");
}

/// 1048576 as `1_048_576`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

fn main() {
    let mut out = String::from(
        "// Generated from native/layout/src/lib.rs by `npm run layout`. Do not edit: a test compares the two.\n\
         // What the shared memory looks like is drawn there.\n\n",
    );
    constants(&mut out, "", layout::TABLE, false);
    for (name, table) in [
        ("descriptor", layout::descriptor::TABLE),
        ("kind", layout::kind::TABLE),
        ("command", layout::command::TABLE),
        ("source", layout::source::TABLE),
        ("header", layout::header::TABLE),
        ("request", layout::request::TABLE),
        ("privilege", layout::privilege::TABLE),
        ("inode", layout::inode::TABLE),
    ] {
        let _ = writeln!(out, "\nexport const {name} = {{");
        constants(&mut out, "  ", table, true);
        out.push_str("} as const;\n");
    }
    examples(&mut out);
    let _ = std::io::stdout().write_all(out.as_bytes());
}
